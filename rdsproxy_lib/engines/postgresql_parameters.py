"""libpq's connect parameters: which are the session's, what all logins of a proxy have in common, TLS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from psycopg import pq

from .. import errors, trust
from ..config import TLS, Options, Target

SESSION_KEYWORDS = frozenset({"autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"})
"""Connect arguments of psycopg that shape the Python side: the client connection's, not part of the pool's key."""
WRITERS = ("any", "primary", "read-write")
"""Values of target_session_attrs under which a writer can be connected to."""
NOWHERE = "/nonexistent"
"""A directory without a server's socket."""

SSLMODE = {
    "disabled": "disable",
    "preferred": "prefer",
    "required": "require",
    "verify-ca": "verify-ca",
    "verify-identity": "verify-full",
}
LOCATED_BY = frozenset({"host", "hostaddr", "service"})
"""Connect arguments that say where the server is."""
SSLNEGOTIATION_SINCE = 170000
"""The version of libpq that has this parameter."""
TLS_PARAMETERS = {"sslmode", "sslrootcert", "sslcert", "sslkey", "ssl_min_protocol_version"}
VERIFYING_SSLMODES = ("verify-ca", "verify-full")
UNENCRYPTED_MODES = (None, "disable", "allow", "prefer")
UNENCRYPTED = "TLS is required, and this connection is not encrypted (unix sockets never are)"
TLS_SINCE = 160000
"""The version of libpq that has all of `tls_parameters`."""


def base_parameters(target: Target, options: Options, tls: TLS | None) -> dict[str, Any]:
    """What all logins of a proxy have in common. Raises ConfigurationError for what contradicts itself."""
    ours = {name: value for name, value in options.driver_options.items() if name not in SESSION_KEYWORDS}
    base: dict[str, Any] = {**target.driver, **ours}
    if target.hosts:  # the first of several stands for all: who opens a backend says which
        base["host"] = target.hosts[0]
    if target.ports:
        base["port"] = target.ports[0]
    if len(target.hosts) > 1 and "hostaddr" in base:
        raise errors.ConfigurationError("hostaddr cannot be given with several hosts")
    if len(target.hosts) > 1 and base.get("target_session_attrs", "any") not in WRITERS:
        raise errors.ConfigurationError(
            f"target_session_attrs={base['target_session_attrs']!r} contradicts several hosts: all work goes to the"
            " writer"
        )
    for name, value in (("user", target.user), ("dbname", target.dbname), ("password", target.password)):
        if value is not None:
            base[name] = value
    if tls is not None:
        if doubled := contradictions(tls, base):
            raise errors.ConfigurationError(f"give either {doubled[0]} or tls=, not both")
        base.update(tls_parameters(tls))
    if options.require_tls and base.get("sslmode") in UNENCRYPTED_MODES:
        if "sslmode" in base:
            raise errors.ConfigurationError(
                f"require_tls=True contradicts sslmode={base['sslmode']!r}, which allows an unencrypted connection"
            )
        base["sslmode"] = "require"
    return base


def tls_parameters(tls: TLS) -> dict[str, str]:
    """What libpq is told, so that its environment and files in the home directory change nothing of it.

    Raises ConfigurationError where this libpq cannot be told so.
    """
    if pq.version() < TLS_SINCE:
        raise errors.ConfigurationError(
            f"tls=, IamToken and SecretsManager need libpq {TLS_SINCE // 10000} or later, and psycopg uses"
            f" {pq.version_pretty(pq.version())}: install psycopg[binary]"
        )
    said = {
        "sslmode": SSLMODE[tls.mode],
        "ssl_min_protocol_version": tls.min_version,
        "sslrootcert": (tls.ca_file or trust.system_bundle() or "system") if tls.verifies else f"{NOWHERE}/root.crt",
        "gssencmode": "disable",  # it would be taken in the place of TLS, where there is a ticket for it
        "sslcertmode": "disable" if tls.cert is None else "allow",
        "ssl_max_protocol_version": "TLSv1.3",
    }
    if pq.version() >= SSLNEGOTIATION_SINCE:
        said["sslnegotiation"] = "postgres"
    if not tls.is_required:
        said["require_auth"] = "!password"  # whoever answers could ask for it in clear
    if tls.cert is not None:
        said["sslcert"] = tls.cert
    if tls.key is not None:
        said["sslkey"] = tls.key
    return said


def contradictions(tls: TLS, given: Mapping[str, Any]) -> list[str]:
    """The names of those among libpq's parameters that say what `tls` says, or that it is otherwise."""
    said = tls_parameters(tls)
    return sorted(name for name in given if name in TLS_PARAMETERS or given[name] != said.get(name, given[name]))


def is_local(parameters: Mapping[str, Any]) -> bool:
    """Whether these lead to a unix socket, as far as they say: where a service leads is in a file of libpq's."""
    if parameters.get("hostaddr") or (parameters.get("service") and not parameters.get("host")):
        return False
    hosts = str(parameters.get("host") or "").split(",")
    return any(not host or host[0] in "/@" for host in hosts)


def from_environment() -> dict[str, str]:
    """What PGUSER, PGAPPNAME and their like set now: part of what a login is, whenever its backends are opened."""
    return {
        option.keyword.decode(): os.environ[option.envvar.decode()]
        for option in _DEFAULTS
        if option.envvar is not None and option.envvar.decode() in os.environ
    }


_DEFAULTS = tuple(pq.Conninfo.get_defaults())
