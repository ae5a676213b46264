"""Which authorities may vouch for a server: the files of certificates on this machine.

RDS signs the certificates of its instances and clusters with authorities of its own, which no system trusts by itself;
those of RDS Proxy come from Amazon Trust Services, which all do:
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection
from dataclasses import replace

from .config import TLS
from .endpoint_names import PROXY_KINDS, Kind, parsed
from .errors import ConfigurationError

RDS_BUNDLE = "rds"
"""As `ca_file`: the first that is there of RDS_BUNDLES."""
RDS_BUNDLE_URL = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
RDS_BUNDLES = (
    "/opt/global-bundle.pem",  # of a Lambda layer
    "/certs/global-bundle.pem",
    "/etc/ssl/certs/global-bundle.pem",
    "/etc/ssl/certs/rds-global-bundle.pem",
    "/etc/pki/rds/global-bundle.pem",
    "/var/runtime/ca-cert.pem",  # of Lambda, where its runtime has one
)
"""Where RDS' bundle is looked for."""
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep what they trust, in one file."""


def rds_bundle() -> str | None:
    """The file of RDS' authorities, where one is installed."""
    return next(filter(os.path.isfile, RDS_BUNDLES), None)


def system_bundle() -> str | None:
    """The file of the authorities that this system trusts, where it has them in one."""
    return next(filter(os.path.isfile, (ssl.get_default_verify_paths().cafile or "", *SYSTEM_BUNDLES)), None)


def hint(host: str, ca_file: str | None) -> str:
    """What to add to the error of a certificate of this host that could not be verified; empty where it is no help."""
    kind = parsed(host).kind
    if kind is Kind.OTHER or kind in PROXY_KINDS or ca_file not in (None, "system", system_bundle()):
        return ""
    return f" (RDS' authorities are not among those of the system: download {RDS_BUNDLE_URL}, and give TLS(ca_file=…))"


def implied(hosts: Collection[str]) -> TLS | None:
    """How connections to these hosts are encrypted where nobody said it, and a token or a secret goes there.

    None for a unix socket.
    """
    if any(host.startswith(("/", "@")) for host in hosts):
        return None
    kinds = {parsed(host).kind for host in hosts}
    is_rds = bool(kinds) and kinds.isdisjoint((Kind.OTHER, *PROXY_KINDS))
    return TLS("verify-identity", ca_file=RDS_BUNDLE if is_rds and rds_bundle() else None)


def found(tls: TLS, hosts: Collection[str]) -> TLS:
    """The same with the path of the authorities' file in the place of ``"rds"``; None where the system's are meant.

    Raises ConfigurationError where a file is not there.
    """
    path = tls.ca_file
    if path == RDS_BUNDLE:
        if tls.mode == "verify-identity" and hosts and all(parsed(host).kind in PROXY_KINDS for host in hosts):
            path = None  # Amazon Trust Services vouches for everybody: the name has to be right
        elif (path := rds_bundle()) is None:
            raise ConfigurationError(
                f"TLS(ca_file={RDS_BUNDLE!r}) finds none of {', '.join(RDS_BUNDLES)}; download {RDS_BUNDLE_URL} and"
                " give its path"
            )
    for name, file in (("ca_file", path), ("cert", tls.cert), ("key", tls.key)):
        if file is not None and not os.path.isfile(file):
            raise ConfigurationError(f"TLS({name}={file!r}): there is no such file")
    return replace(tls, ca_file=path)
