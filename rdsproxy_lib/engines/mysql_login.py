"""A connection of PyMySQL while it logs in: it does not wait for longer than it was told, and may be guarded, so that
no password is told to whoever answers without TLS.

The driver gives each answer of the server the whole time anew. And it does what a server asks for: the password in
clear (`mysql_clear_password`, `dialog`), or encrypted with a key that the server sends along. With TLS, and on a unix
socket, that is as it should be.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Any

from pymysql._auth import scramble_caching_sha2
from pymysql.connections import Connection, err
from pymysql.constants import CLIENT, CR
from pymysql.protocol import MysqlPacket

_FULL_AUTHENTICATION = 4
_CLEAR = {"mysql_clear_password", "dialog", "sha256_password", "mysql_old_password"}
"""The last is not in clear, but as good as that."""


class Bounded(Connection):
    """Made of a connection of the driver that did not connect yet, by its class."""

    __module__ = "pymysql.connections"
    _deadline: float

    @property
    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    _read_timeout = _write_timeout = _left

    def _read_bytes(self, num_bytes: int) -> bytes:
        data = b""
        while len(data) < num_bytes:  # they may drip in
            self._sock.settimeout(self._left)
            data += super()._read_bytes(1)
        return data


class Guarded(Bounded):
    """One that tells no password without TLS."""

    __module__ = "pymysql.connections"

    def _get_auth_plugin_handler(self, plugin_name: Any) -> Any:
        handler = super()._get_auth_plugin_handler(plugin_name)
        name = plugin_name.decode("ascii", "replace") if isinstance(plugin_name, bytes) else plugin_name
        if handler is not None or self._secure or self.server_public_key:
            return handler
        if name in _CLEAR:
            return _Refuses(name)
        return _Sha2(self) if name == "caching_sha2_password" else None


class _Refuses:
    """In the place of a plugin that would tell the password."""

    def __init__(self, name: str) -> None:
        self._name = name

    def authenticate(self, packet: MysqlPacket) -> MysqlPacket:
        raise err.OperationalError(
            CR.CR_AUTH_PLUGIN_ERR,
            f"the server asks for the password without TLS ({self._name}), and was not told it; use"
            " TLS('verify-identity')",
        )


class _Sha2:
    """caching_sha2_password without its second half, in which the server sends a key of its own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def authenticate(self, packet: MysqlPacket) -> MysqlPacket:
        connection = self._connection
        if packet.is_auth_switch_request():
            connection.salt = packet.read_all().removesuffix(b"\0")
            connection.write_packet(scramble_caching_sha2(connection.password, connection.salt))
        elif packet._data[1:2] == bytes((_FULL_AUTHENTICATION,)):
            _Refuses("caching_sha2_password, with a key of the server's").authenticate(packet)
        answer: MysqlPacket = connection._read_packet()
        return answer


def bound(raw: Connection, deadline: float) -> None:
    """Have a connection that is about to connect give up by then (monotonic seconds)."""
    raw.__class__ = Bounded
    raw._deadline = deadline


def guard(raw: Connection, *, is_optional: bool) -> None:
    """Guard a connection that is bound. `is_optional`: also without TLS, where the server has none."""
    raw.__class__ = Guarded
    if is_optional:
        raw._ssl_required = False
        raw.client_flag &= ~CLIENT.SSL


def insists_on_tls(raw: Connection) -> bool:
    """Whether a connection of the driver will talk to nobody but a server that has TLS."""
    return bool(raw.ssl and raw._ssl_required)


def verifies(raw: Connection, arguments: Mapping[str, Any]) -> bool:
    """Whether a connection of the driver, made with these arguments, will talk to nobody but a server whose certificate
    is good: for its name, or of an authority that was named. Those the system trusts vouch for everybody.
    """
    if not insists_on_tls(raw) or raw.ctx.verify_mode != ssl.CERT_REQUIRED:
        return False
    given = arguments.get("ssl")
    return bool(raw.ctx.check_hostname or arguments.get("ssl_ca") or decides_authority(given))


def decides_authority(given: object) -> bool:
    """Whether the argument `ssl` says who may vouch for the server. The driver verifies none if a mapping does not."""
    if isinstance(given, Mapping):
        return bool(given.get("ca") or given.get("capath"))
    return isinstance(given, ssl.SSLContext)
