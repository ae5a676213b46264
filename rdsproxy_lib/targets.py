"""From what a Proxy was given to where it goes: the target, its engine, and how it is encrypted there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import config, errors, trust
from .config import TLS, Options, Target
from .credentials import Credentials, Source, TryLater

if TYPE_CHECKING:
    from .engines.base import Engine

ENGINES = {"mysql": "mysql", "mariadb": "mysql", "postgres": "postgresql", "postgresql": "postgresql"}
"""Those of secrets, less ``aurora-``."""
DATABASE = ("dbname", "database", "db")
"""The drivers' arguments that name one."""


def target_of(
    engine: str | None,
    url: str | None,
    host: str | None,
    port: int | str | None,
    user: str | None,
    dbname: str | None,
    password: str | None,
) -> tuple[Target, dict[str, Any]]:
    """The target, and the options of the URL; keywords win over it. Raises ConfigurationError."""
    options: dict[str, Any] = {}
    if url is None:
        if engine is None:
            raise errors.ConfigurationError("give a URL, or engine= with host=, user=, dbname=")
        target = Target(engine)
    elif isinstance(url, str):
        target, options = config.parse_url(url)
    else:
        raise errors.ConfigurationError(f"the URL must be text, not {type(url).__name__}")
    if engine is not None and engine != target.engine:
        raise errors.ConfigurationError(f"engine={engine!r} contradicts the URL's {target.engine}")
    hosts, ports = target.hosts, tuple(str(port).split(",")) if port else target.ports
    if host:
        hosts, ports = config.hosts_and_ports(host, ",".join(ports))
    return (
        replace(
            target,
            hosts=hosts,
            ports=ports,
            user=target.user if user is None else user,
            dbname=target.dbname if dbname is None else dbname,
            password=target.password if password is None else password,
        ),
        options,
    )


def arguments(target: Target, options: Options) -> dict[str, Any]:
    """The driver's own, of the URL and of `driver_options`."""
    return {**target.driver, **options.driver_options}


def lacks_server(target: Target, options: Options) -> bool:
    """Whether nothing says where the server is."""
    return not target.hosts and bool(_engine_class(target.engine).located_by.isdisjoint(arguments(target, options)))


def server_of(source: Source, engine: str | None, timeout: float) -> Mapping[str, str]:
    """What a secret knows of its server. Raises CredentialsError where it cannot be read within `timeout` seconds.

    As the driver's error, where the engine is known.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            return source.server(max(0.1, left))
        except TryLater as later:
            if later.seconds < left:
                time.sleep(later.seconds)
                continue
            failure = errors.CredentialsError(str(later.why))
        except errors.CredentialsError as error:
            failure = error
        break
    raise failure if engine is None else error_of(engine, errors.CredentialsError, str(failure))


def engine_of(source: Source, server: Mapping[str, str]) -> str:
    """The engine that a secret names. Raises ConfigurationError where it names none of ours."""
    engine = _known_engine(server)
    if engine is None:
        name = server.get("engine", "")
        raise errors.ConfigurationError(f"the secret {source.secret_id}: its engine is {name!r}; give engine=")
    return engine


def _known_engine(server: Mapping[str, str]) -> str | None:
    return ENGINES.get(server.get("engine", "").lower().removeprefix("aurora-"))


def completed(target: Target, options: Options, source: Source, server: Mapping[str, str]) -> Target:
    """The target with what a secret knows and nobody said. Raises ConfigurationError for what cannot be used of it."""
    secret, own = f"the secret {source.secret_id}", arguments(target, options)
    hosts, ports, dbname = target.hosts, target.ports, target.dbname
    if lacks_server(target, options):
        if "host" not in server:
            raise errors.ConfigurationError(f"{secret} has no host in it: give the Proxy one")
        if _known_engine(server) not in (None, target.engine):
            raise errors.ConfigurationError(
                f"{secret} is of a server whose engine is {server['engine']!r}, and the Proxy's is {target.engine!r}:"
                " leave out engine= or the URL, or give the host as well"
            )
        hosts = (server["host"],)
    if hosts and "port" in server and not (ports or own.get("port")):
        if not config.is_port(server["port"]):
            raise errors.ConfigurationError(f"{secret}: its port must be a number from 1 to 65535")
        ports = (server["port"],)
    if not dbname and not any(map(own.get, DATABASE)):
        dbname = server.get("dbname")
    return replace(target, hosts=hosts, ports=ports, dbname=dbname)


def check_password(engine: str, given: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a password in bytes where the driver takes text alone, and would send their repr."""
    if engine == "postgresql" and isinstance(given.get("password"), bytes):
        raise errors.ConfigurationError("password must be text, not bytes: decode them")


def engine_for(target: Target, options: Options, credentials: Credentials, tls: TLS | None) -> Engine:
    """The engine of a target. Raises ConfigurationError for what contradicts itself."""
    for source in credentials.sources:
        source.check(target.hosts)
    kind = _engine_class(target.engine)
    given = arguments(target, options)
    hosts = target.hosts or _named(given, "host")
    hosts = _named(given, "unix_socket") or hosts  # of PyMySQL, which prefers it
    check_password(target.engine, given)
    check_password(target.engine, {"password": target.password})
    if tls is None and credentials.imply_tls:
        own = sorted(kind.tls_parameters & given.keys())
        if not own:
            tls = trust.implied(hosts)
        elif not kind.decides_tls(given):
            raise errors.ConfigurationError(
                f"{own[0]} alone leaves it to the server whether it is verified, and a token or a secret goes there:"
                " give tls=TLS(…) instead"
            )
    if tls is not None:
        if credentials.need_verified_tls and not tls.verifies:
            raise errors.ConfigurationError(
                f"TLS({tls.mode!r}): an IAM token goes to a verified server only; use 'verify-identity'"
            )
        tls = trust.found(tls, hosts)
    engine: Engine = kind(target, options, credentials, tls)
    return engine


def _named(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return (str(given[name]),) if given.get(name) else ()


def error_of(engine: str, kind: type[errors.Error], message: str) -> Exception:
    """The error of ours as a class that is the driver's too."""
    error: Exception = _engine_class(engine).error(kind, message)
    return error


def _engine_class(name: str) -> Any:
    """Loads its driver."""
    if name == "mysql":
        from .engines.mysql import MySQLEngine

        return MySQLEngine
    from .engines.postgresql import PostgresEngine

    return PostgresEngine
