"""Every option, checked when the object is built. Pure: no driver, no clock, no file.

A wrong value raises ConfigurationError with the option's name, the allowed range and what was given.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote

from .detection import Limits
from .errors import ConfigurationError
from .secret import Secret, hidden, hiding
from .sql import Reason
from .topology import Endpoint

ENGINES = ("postgresql", "mysql")
SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "postgresql+psycopg": "postgresql",
    "mysql": "mysql",
    "mysql+pymysql": "mysql",
}
DEFAULT_PORTS = {"postgresql": "5432", "mysql": "3306"}
TLS_MODES = ("disabled", "preferred", "required", "verify-ca", "verify-identity")
OPTIONAL_MODES = ("disabled", "preferred")
"""Modes in which a connection may be without TLS."""
VERIFYING_MODES = ("verify-ca", "verify-identity")
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
PINNING_FILTERS = ("EXCLUDE_VARIABLE_SETS",)
ROUTINE_POLICIES = ("pin", "reset", "trust")
PIN_POLICIES = ("pin", "warn", "error")
URL_PREFIX = "rdsproxy_"
ENVIRONMENT_PREFIX = "RDSPROXY_"


_PARAMETER = re.compile("[a-z_]+").fullmatch
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})?").fullmatch


def _wrong(name: str, allowed: str, given: object) -> ConfigurationError:
    return ConfigurationError(f"{name} must be {allowed}, not {given!r}")


def _check_number(name: str, value: object, low: float, high: float, unit: str, *, whole: bool = False) -> None:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:  # type: ignore[operator]
        raise _wrong(name, f"{'a whole' if whole else 'a'} number from {low:g} to {high:g}{unit}", value)


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)


@dataclass(frozen=True, slots=True)
class TLS:
    """How database connections are encrypted, with the five modes of RDS Proxy's page and one meaning for both drivers.

    `mode`: disabled, preferred (if the server can), required (unverified), verify-ca, verify-identity (the name
    dialled too). `ca_file`, `cert` and `key` are paths of PEM files: who may vouch for the server, and what we show it.
    ``ca_file="rds"`` is an installed bundle of RDS' authorities; None, what the system trusts. `min_version` is TLSv1.2
    or TLSv1.3. Raises ConfigurationError for a wrong value.
    """

    mode: str = "verify-identity"
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None
    min_version: str = "TLSv1.2"

    def __post_init__(self) -> None:
        if self.mode not in TLS_MODES:
            raise _wrong("TLS mode", "one of " + ", ".join(TLS_MODES), self.mode)
        if self.min_version not in TLS_VERSIONS:
            raise _wrong("TLS min_version", "one of " + ", ".join(TLS_VERSIONS), self.min_version)
        for name in ("ca_file", "cert", "key"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise _wrong(f"TLS {name}", "the path of a PEM file or None", value)
        if self.ca_file is not None and not self.verifies:
            raise ConfigurationError(
                f"TLS ca_file needs mode verify-ca or verify-identity: {self.mode} verifies nothing"
            )
        if self.ca_file is None and self.mode == "verify-ca":
            raise ConfigurationError(
                "TLS verify-ca needs ca_file: those whom the system trusts vouch for everybody, under any name"
            )
        if self.key is not None and self.cert is None:
            raise ConfigurationError("TLS key needs cert: a private key without its certificate cannot be used")

    @property
    def is_required(self) -> bool:
        """Whether there is no connection without it."""
        return self.mode not in OPTIONAL_MODES

    @property
    def verifies(self) -> bool:
        """Whether the server has to have a good certificate."""
        return self.mode in VERIFYING_MODES


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one Proxy; their story is in docs/options.md."""

    max_connections: int = 10
    max_connections_percent: int | None = None
    max_idle_connections_percent: int = 50
    connection_borrow_timeout: float = 120.0
    idle_client_timeout: float | None = None
    connection_max_lifetime: float = 86400.0
    init_query: str | None = None
    session_pinning_filters: tuple[str, ...] = ()
    max_pinned_percent: int = 100
    routine_policy: str = "pin"
    trusted_routines: tuple[str, ...] = ()
    pin_policy: str | Mapping[str, str] = "pin"
    keep_diagnostics: bool = False
    audit: bool = False
    resolve_commits: str | None = None
    require_tls: bool = False
    monitor: bool | str = "auto"
    failure_detection_time: float = 5.0
    failure_detection_interval: float = 1.0
    failure_detection_count: int = 3
    read_write_splitting: bool = False
    consistency: str = "session"
    max_replica_lag: float | None = None
    reader_fallback: str = "wait"
    driver_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def __post_init__(self) -> None:
        _check_number("max_connections", self.max_connections, 1, 10_000, "", whole=True)
        if self.max_connections_percent is not None:
            _check_number("max_connections_percent", self.max_connections_percent, 1, 100, "", whole=True)
        _check_number("max_idle_connections_percent", self.max_idle_connections_percent, 0, 100, "", whole=True)
        _check_number("connection_borrow_timeout", self.connection_borrow_timeout, 0, 3600, " seconds")
        if self.idle_client_timeout is not None:
            _check_number("idle_client_timeout", self.idle_client_timeout, 0.01, 28_800, " seconds, or None")
        _check_number("connection_max_lifetime", self.connection_max_lifetime, 0.01, 86_400, " seconds")
        if self.init_query is not None and (not isinstance(self.init_query, str) or not self.init_query.strip()):
            raise _wrong("init_query", "SQL text or None", self.init_query)
        filters = self.session_pinning_filters
        if not isinstance(filters, tuple | list) or not all(name in PINNING_FILTERS for name in filters):
            raise _wrong("session_pinning_filters", f"a tuple of {', '.join(PINNING_FILTERS)}", filters)
        _check_number("max_pinned_percent", self.max_pinned_percent, 0, 100, "", whole=True)
        if self.routine_policy not in ROUTINE_POLICIES:
            raise _wrong("routine_policy", "'pin', 'reset' or 'trust'", self.routine_policy)
        trusted = self.trusted_routines
        if not isinstance(trusted, tuple | list) or not all(isinstance(name, str) and name.strip() for name in trusted):
            raise _wrong("trusted_routines", "a tuple of names, schema.name or patterns like st_*", trusted)
        self._check_pin_policy()
        _check_bool("keep_diagnostics", self.keep_diagnostics)
        _check_bool("audit", self.audit)
        name = self.resolve_commits
        if name is not None and not (isinstance(name, str) and _TABLE(name)):
            raise _wrong("resolve_commits", "'table' or 'schema.table' (letters, digits, underscores), or None", name)
        _check_bool("require_tls", self.require_tls)
        if self.monitor != "auto" and not isinstance(self.monitor, bool):
            raise _wrong("monitor", "'auto', True or False", self.monitor)
        _check_number("failure_detection_time", self.failure_detection_time, 0.1, 3600, " seconds")
        _check_number("failure_detection_interval", self.failure_detection_interval, 0.05, 60, " seconds")
        _check_number("failure_detection_count", self.failure_detection_count, 1, 100, "", whole=True)
        _check_bool("read_write_splitting", self.read_write_splitting)
        if self.consistency not in ("session", "eventual"):
            raise _wrong("consistency", "'session' or 'eventual'", self.consistency)
        if self.max_replica_lag is not None:
            _check_number("max_replica_lag", self.max_replica_lag, 0, 86_400, " seconds, or None")
        if self.reader_fallback not in ("wait", "writer"):
            raise _wrong("reader_fallback", "'wait' or 'writer'", self.reader_fallback)
        if not isinstance(self.driver_options, Mapping):
            kind = type(self.driver_options).__name__  # its value may be a password
            raise ConfigurationError(f"driver_options must be a mapping of the driver's connect arguments, not {kind}")

    @property
    def detection(self) -> Limits:
        """When a host is asked whether it is there, and when it counts as lost."""
        return Limits(self.failure_detection_time, self.failure_detection_interval, self.failure_detection_count)

    def policy_of(self, reason: str) -> str:
        """What a statement does that would pin for the reason of this name: ``pin``, ``warn`` or ``error``.

        MANUAL always pins: whoever calls `conn.rdsproxy.pin()` wants it.
        """
        policy = self.pin_policy
        if isinstance(policy, str):
            return policy if reason != Reason.MANUAL.name else "pin"
        return policy.get(reason, "pin")

    def _check_pin_policy(self) -> None:
        policy, policies = self.pin_policy, ", ".join(map(repr, PIN_POLICIES))
        if isinstance(policy, str):
            if policy not in PIN_POLICIES:
                raise _wrong("pin_policy", f"one of {policies}, or a mapping of reasons to these", policy)
            return
        if not isinstance(policy, Mapping):
            raise _wrong("pin_policy", f"one of {policies}, or a mapping of reasons to these", policy)
        for name, each in policy.items():
            if name == Reason.MANUAL.name:
                raise ConfigurationError("pin_policy cannot name MANUAL: who calls conn.rdsproxy.pin() wants the pin")
            if not isinstance(name, str) or name not in Reason.__members__:
                reasons = ", ".join(reason.name for reason in Reason if reason is not Reason.MANUAL)
                raise ConfigurationError(f"pin_policy names {name!r}, which is no reason to pin; reasons are {reasons}")
            if each not in PIN_POLICIES:
                raise _wrong(f"pin_policy for {name}", f"one of {policies}", each)
        object.__setattr__(self, "pin_policy", MappingProxyType(dict(policy)))  # whoever gave it may change theirs


OPTION_NAMES = frozenset(option.name for option in dataclasses.fields(Options))


def check_engine(options: Options, engine: str) -> None:
    """Raise ConfigurationError for an option that has no meaning for this engine."""
    if options.session_pinning_filters and engine != "mysql":
        raise ConfigurationError(
            "session_pinning_filters is for MySQL and MariaDB: RDS Proxy has no filters for PostgreSQL, and there is"
            " nothing to exclude here, since settings do not pin"
        )


def _is_true(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def _list(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


def _pin_policy(text: str) -> str | dict[str, str]:
    """One policy for all, or ``TEMP_TABLE=error,LISTEN=warn``."""
    if "=" not in text:
        return text.strip()
    pairs = [each.split("=") for each in _list(text)]
    return {name.strip(): policy.strip() for name, policy in pairs}


_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "max_connections": int,
    "max_connections_percent": int,
    "max_idle_connections_percent": int,
    "connection_borrow_timeout": float,
    "idle_client_timeout": float,
    "connection_max_lifetime": float,
    "init_query": str,
    "max_pinned_percent": int,
    "routine_policy": str,
    "trusted_routines": _list,
    "pin_policy": _pin_policy,
    "keep_diagnostics": _is_true,
    "audit": _is_true,
    "resolve_commits": str,
    "require_tls": _is_true,
    "monitor": lambda text: {"auto": "auto", "true": True, "false": False}[text.lower()],
    "failure_detection_time": float,
    "failure_detection_interval": float,
    "failure_detection_count": int,
    "read_write_splitting": _is_true,
    "consistency": str,
    "max_replica_lag": float,
    "reader_fallback": str,
    "session_pinning_filters": _list,
}


def option_from_text(name: str, text: str, where: str) -> Any:
    """The value of an option written in a URL or in the environment; `where` names it in the error."""
    if name not in _FROM_TEXT:
        raise ConfigurationError(f"{where} is not an option; options are {', '.join(sorted(_FROM_TEXT))}")
    try:
        return _FROM_TEXT[name](text)
    except (ValueError, KeyError):
        raise ConfigurationError(f"{where} has the value {text!r}, which is not one for {name}") from None


def options_from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What RDSPROXY_* sets: RDSPROXY_MAX_CONNECTIONS=20 is max_connections=20."""
    ours = {key: text for key, text in environ.items() if key.startswith(ENVIRONMENT_PREFIX)}
    del environ  # others' secrets are in it, and nobody who looks at this frame is to see them
    names = {key: key.removeprefix(ENVIRONMENT_PREFIX).lower() for key in ours}
    return {names[key]: option_from_text(names[key], text, key) for key, text in ours.items()}


def build_options(values: Mapping[str, Any]) -> Options:
    """Options from keywords. Raises TypeError for a name that is none, ConfigurationError for a wrong value."""
    unknown = sorted(set(values) - OPTION_NAMES)
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; options are {', '.join(sorted(OPTION_NAMES))}")
    return Options(**values)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect and as whom. `driver` holds the driver's own parameters, the password never shown."""

    engine: str
    hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    user: str | None = None
    dbname: str | None = None
    password: str | None = field(default=None, repr=False)
    driver: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise _wrong("engine", "'postgresql' or 'mysql'", self.engine)
        object.__setattr__(self, "password", hidden(self.password))
        object.__setattr__(self, "driver", MappingProxyType(hiding(self.driver)))
        if any("," in host for host in self.hosts):
            raise ConfigurationError("a comma stands in the name of a host; it separates several hosts")
        if not all(self.hosts):
            raise ConfigurationError("one of the hosts has no name")
        if len(self.hosts) > 1:
            self._align_ports()
        for port in self.ports:
            check_port(port)

    def _align_ports(self) -> None:
        if any(host.startswith("/") for host in self.hosts):
            raise ConfigurationError("a unix socket cannot be one of several hosts")
        ports = self.ports if len(self.ports) > 1 else self.ports * len(self.hosts) or ("",) * len(self.hosts)
        if len(ports) != len(self.hosts):
            raise ConfigurationError(f"{len(self.hosts)} hosts need as many ports, or one for all, not {len(ports)}")
        object.__setattr__(self, "ports", tuple(port or DEFAULT_PORTS[self.engine] for port in ports))
        if len(set(zip(self.hosts, self.ports, strict=True))) < len(self.hosts):
            raise ConfigurationError("a host is given twice")

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Each of several hosts with its port; empty where there are not several."""
        if len(self.hosts) < 2:
            return ()
        return tuple(Endpoint(host, int(port)) for host, port in zip(self.hosts, self.ports, strict=True))


def split_hosts(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Hosts and ports of ``db1:5432,db2``; a port that is not given is empty."""
    pairs = [_split_port(item) for item in text.split(",")]
    return tuple(unquote(host) for host, _ in pairs), tuple(port for _, port in pairs)


def hosts_and_ports(host: str, port: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """From keywords: one host, or several with commas, each with its port behind it, in `port`, or all with `port`."""
    ports = tuple(port.split(",")) if port else ()
    if "," not in host or host.startswith("/"):
        return (host,), ports
    hosts, own = split_hosts(host)
    if not any(own):
        return hosts, ports
    if len(ports) > 1:
        raise ConfigurationError("give the ports of several hosts either behind them or in port=, not both")
    common = ports[0] if ports else ""
    return hosts, tuple(each or common for each in own)


def parse_url(url: str) -> tuple[Target, dict[str, Any]]:
    """As `_parse_url`, without a frame in what it raises that has the URL's password in a local variable."""
    url = Secret(url)
    try:
        return _parse_url(url)
    except ConfigurationError as error:
        raise error.with_traceback(None) from None


def _parse_url(url: str) -> tuple[Target, dict[str, Any]]:
    """Take a URL apart: the target, and the options given as `rdsproxy_<option>` query parameters.

    postgresql://user:password@host:5432/dbname?sslmode=require&rdsproxy_max_connections=5. Several hosts stand
    with commas; a unix socket's directory stands percent-encoded as the host, or as `?host=`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ConfigurationError(f"the URL must begin with one of {', '.join(s + '://' for s in SCHEMES)}")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    userinfo, at, hostlist = authority.rpartition("@")
    user, colon, password = userinfo.partition(":") if at else ("", "", "")
    if "@" in path:
        raise ConfigurationError(
            "an @ stands behind the first / of the URL; a user name, password or database in a URL has to be"
            " percent-encoded"
        )
    hosts, ports = map(list, split_hosts(hostlist)) if hostlist else ([], [])
    if len(hosts) > 1 and not all(hosts):
        raise ConfigurationError("one of the hosts has no name")
    driver: dict[str, str] = {}
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key.startswith(URL_PREFIX):
            name = key[len(URL_PREFIX) :]
            options[name] = option_from_text(name, value, f"{key} in the URL")
        elif not _PARAMETER(key):
            raise ConfigurationError(
                "a query parameter of the URL has a name that none can have; a user name or password in a URL has to be"
                " percent-encoded"
            )
        else:
            driver[key] = value
    if "host" in driver and not any(hosts):
        hosts, ports = map(list, hosts_and_ports(driver.pop("host"), driver.pop("port", "")))
    return (
        Target(
            engine=SCHEMES[scheme],
            hosts=tuple(filter(None, hosts)),
            ports=tuple(ports) if len(hosts) > 1 else tuple(filter(None, ports)),
            user=unquote(user) or driver.pop("user", None),
            dbname=unquote(path) or driver.pop("dbname", None),
            password=unquote(password) if colon else driver.pop("password", None),
            driver=driver,
        ),
        options,
    )


def _split_port(item: str) -> tuple[str, str]:
    if item.startswith("["):  # an IPv6 address
        address, bracket, port = item[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ConfigurationError("an IPv6 address in the URL must stand as [address] or [address]:port")
        return address, port[1:]
    with suppress(ValueError):
        return str(IPv6Address(item)), ""
    host, colon, port = item.rpartition(":")
    return (host, port) if colon else (item, "")


def is_port(text: str) -> bool:
    """Whether it is the number of one."""
    return text.isascii() and text.isdigit() and 1 <= int(text) <= 65535


def check_port(port: str) -> None:
    """Raise ConfigurationError for what is no port. The text is not repeated: in a bad URL it may be a password."""
    if not is_port(port):
        raise ConfigurationError(
            "the port must be a number from 1 to 65535; a user name or password in a URL has to be percent-encoded"
        )
