"""PyMySQL's connect arguments: which are the session's, what a URL's texts mean, TLS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from .. import errors
from ..config import TLS, Options, Target

SESSION_KEYWORDS = frozenset(
    {
        "autocommit",
        "conv",
        "cursorclass",
        "defer_connect",
        "max_allowed_packet",
        "read_timeout",
        "use_unicode",
        "write_timeout",
    }
)
"""Connect arguments of PyMySQL that shape the Python side: the client connection's, not part of the pool's key."""
_NUMBERS = {"client_flag", "connect_timeout", "max_allowed_packet", "port", "read_timeout", "write_timeout"}
_TRUTHS = {"autocommit", "local_infile", "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity", "use_unicode"}
TLS_ARGUMENTS = {
    "ssl",
    "ssl_ca",
    "ssl_cert",
    "ssl_disabled",
    "ssl_key",
    "ssl_key_password",
    "ssl_verify_cert",
    "ssl_verify_identity",
}


def base_parameters(given: Mapping[str, Any], target: Target, options: Options, tls: TLS | None) -> dict[str, Any]:
    """What all logins of a proxy have in common. Raises ConfigurationError for what contradicts itself."""
    base = dict(given)
    if len(target.hosts) > 1 and base.get("unix_socket"):
        raise errors.ConfigurationError("unix_socket cannot be given with several hosts")
    if target.hosts:
        is_socket = target.hosts[0].startswith("/")
        base["unix_socket" if is_socket else "host"] = target.hosts[0]
    if target.ports:
        base["port"] = int(target.ports[0])
    for name, value in (("user", target.user), ("database", target.dbname), ("password", target.password)):
        if value is not None:
            base[name] = value
    if tls is not None:
        if doubled := sorted(TLS_ARGUMENTS & base.keys()):
            raise errors.ConfigurationError(f"give either {doubled[0]} or tls=, not both")
        if tls.mode == "disabled":
            base["ssl_disabled"] = True
        else:
            base["ssl"] = _context(tls)
    if options.require_tls:
        if base.get("ssl_disabled") or (tls is not None and tls.mode == "preferred"):
            raise errors.ConfigurationError("require_tls=True contradicts a TLS that is disabled, or only preferred")
        if not TLS_ARGUMENTS & base.keys():
            base["ssl"] = _context(TLS("required"))  # the driver's own way is to do without where the server has none
    return base


def from_text(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The driver's arguments from the text they have in a URL. Raises ConfigurationError, naming the one."""
    values: dict[str, Any] = dict(parameters)
    for name, text in parameters.items():
        if name in _NUMBERS:
            if not text.isascii() or not text.isdigit():
                raise errors.ConfigurationError(f"{name} in the URL must be a whole number, not {text!r}")
            values[name] = int(text)
        elif name in _TRUTHS:
            if text.lower() not in ("true", "false", "1", "0"):
                raise errors.ConfigurationError(f"{name} in the URL must be true or false, not {text!r}")
            values[name] = text.lower() in ("true", "1")
    return values


def _context(tls: TLS) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise errors.ConfigurationError(f"TLS(ca_file={tls.ca_file!r}) cannot be used: {error}") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the certificates that servers make for themselves fail it
    context.check_hostname = tls.mode == "verify-identity"
    context.verify_mode = ssl.CERT_REQUIRED if tls.verifies else ssl.CERT_NONE
    context.minimum_version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[tls.min_version]
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password="")  # without one OpenSSL asks the terminal
        except OSError as error:
            raise errors.ConfigurationError(
                f"TLS(cert={tls.cert!r}, key={tls.key!r}) cannot be used: {error}"
            ) from None
    return context
