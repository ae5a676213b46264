"""The proxies that this process shares: behind `rdsproxy_lib.connect()` and the drop-in modules."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from . import config, errors
from .config import Target
from .engines.base import hashable
from .proxy import Proxy, face_of
from .secret import HIDDEN, hidden, hiding

_lock = threading.Lock()
_proxies: dict[Any, Proxy] = {}
_defaults: dict[str, Any] = {}

_SEAL = secrets.token_bytes(32)

WHERE = {
    "postgresql": ("host", "hostaddr", "port", "user", "password"),
    "mysql": ("host", "unix_socket", "port", "user", "password", "passwd", "read_default_file", "read_default_group"),
}
"""The driver's parameters that say which server it is, and as whom."""
ENVIRONMENT = {"postgresql": ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGSERVICE"), "mysql": ()}


def configure(**defaults: Any) -> None:
    """Set defaults for the options of shared proxies that are made from now on.

    RDSPROXY_* environment variables overrule them, and `connect(rdsproxy={…})` overrules both. Raises
    ConfigurationError for a wrong value and TypeError for an unknown name, and then changes nothing.
    """
    defaults = hiding(defaults)
    config.build_options(defaults)
    with _lock:
        _defaults.update(defaults)


def connect(url: str | None = None, *, rdsproxy: Mapping[str, Any] | None = None, **keywords: Any) -> Any:
    """A connection through the Proxy that this process shares for that target; made at its first use.

    `url` as for Proxy, or `engine=` with the driver's own connect keywords. `rdsproxy` holds options of the Proxy, also
    `credentials` and `tls`. Proxies are shared by engine, host, port, credentials and TLS; raises ConfigurationError
    where options contradict those the shared one was made with.
    """
    url, rdsproxy, keywords = hidden(url), hiding(rdsproxy or {}), hiding(keywords)
    engine = keywords.pop("engine", None)
    options: dict[str, Any] = {}
    parameters = dict(keywords)
    if url is not None:
        target, options = config.parse_url(url)
        engine = target.engine
        parameters = {**_parameters(target), **keywords}
    elif engine is None:
        raise errors.ConfigurationError("give a URL, or engine= with the driver's connect keywords")
    if engine not in WHERE:
        raise errors.ConfigurationError(f"engine must be 'postgresql' or 'mysql', not {engine!r}")
    return connect_parameters(face_of(engine), engine, parameters, {**options, **rdsproxy})


def connect_parameters(
    face: Callable[..., Any], engine: str, parameters: dict[str, Any], asked: Mapping[str, Any]
) -> Any:
    """Connect with the driver's parameters through the shared Proxy that the options `asked` for allow.

    `face` makes the connection from what makes its client, and the keywords that are the session's. What must not be
    seen of `parameters` and `asked` is hidden already.
    """
    credentials, tls = asked.get("credentials"), asked.get("tls")
    asked = {name: value for name, value in asked.items() if name not in ("credentials", "tls")}
    config.build_options(asked)
    where = {name: parameters.pop(name) for name in WHERE[engine] if parameters.get(name) is not None}
    secured = frozenset((name, _sealed(value)) for name, value in parameters.items() if name.startswith("ssl"))
    environment = tuple(os.environ.get(name) for name in ENVIRONMENT[engine])
    told = tuple((name, _sealed(value) if name in HIDDEN else str(value)) for name, value in where.items())
    key = (engine, told, environment, secured, hashable(credentials), tls)
    user = where.pop("user", None)
    with _lock:
        proxy = _proxies.get(key)
        if proxy is None or proxy.is_closed:
            options = {**_defaults, **config.options_from_environment(os.environ), **asked}
            driver = dict(options.pop("driver_options", {}))
            ports = where.pop("port", None) if "," in str(where.get("host")) else None
            # As the driver gets them, so that it refuses a wrong one in its own words.
            driver.update((name, where[name]) for name in where.keys() - {"host", "password"})
            proxy = _proxies[key] = Proxy(
                engine=engine,
                host=where.get("host"),
                port=ports,
                user=user,
                password=where.get("password"),
                credentials=credentials,
                tls=tls,
                driver_options=driver,
                **options,
            )
        else:
            _check_agreement(proxy, asked, engine)
    return proxy._connect(face, None, parameters.pop("dbname", None), parameters)


def _sealed(value: object) -> str:
    """What stands in a key for what may be, or have, a secret: equal for equal ones, in this process."""
    if isinstance(value, Mapping):
        value = sorted((name, _sealed(each)) for name, each in value.items())
    told = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told, key=_SEAL).hexdigest()


def _check_agreement(proxy: Proxy, asked: Mapping[str, Any], engine: str) -> None:
    for name, value in asked.items():
        used = getattr(proxy.options, name)
        if name == "driver_options":  # without what was put there above
            added = set(WHERE[engine]) - value.keys()
            used = {key: used[key] for key in used.keys() - added}
        if used != value:
            raise errors.ConfigurationError(
                f"{name}={value!r} contradicts {name}={used!r} of the Proxy that this process already shares for that"
                " target; use one value everywhere, or a Proxy of your own"
            )


def _parameters(target: Target) -> dict[str, Any]:
    parameters: dict[str, Any] = dict(target.driver)
    if target.endpoints:
        parameters["host"] = ",".join(map(str, target.endpoints))
    elif target.hosts:
        parameters["host"] = target.hosts[0]
    if target.ports and not target.endpoints:
        parameters["port"] = target.ports[0]
    if target.engine == "mysql":  # whose driver wants numbers where a URL has texts
        from .engines.mysql_parameters import from_text

        parameters = from_text(parameters)
    for name in ("user", "password", "dbname"):
        if getattr(target, name) is not None:
            parameters[name] = getattr(target, name)
    return parameters


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
