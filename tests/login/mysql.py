"""MySQL's and MariaDB's login, with TLS that ends at the front: the server's own, by token, and a hostile one's.

Packets of the login carry numbers, and on each side of the front there are others: TLS takes one more. After the OK
packet they start again with each command, so that from there on bytes pass as they are.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pymysql import _auth
from pymysql.constants import CLIENT

from tests.login.channel import Channel
from tests.login.front import Front, Refused

_DENIED = 1045
_OK, _MORE, _SWITCH, _ERROR = 0x00, 0x01, 0xFE, 0xFF
_FAST_OK, _FULL = 3, 4  # what caching_sha2_password has to say
_KEY_WANTED = {"caching_sha2_password": b"\x02", "sha256_password": b"\x01"}
_CONNECT_ATTRS, _WITH_DB = CLIENT.CONNECT_ATTRS, CLIENT.CONNECT_WITH_DB


class MySQLFront(Front):
    """A front of MySQL and MariaDB. More checks, which want the password, on any channel, and refuse everyone:

    "clear" and "dialog" ask for it; "caching_sha2_password" and "sha256_password" offer a key of their own for it;
    "mysql_old_password" asks for a hash of it that is easily undone.

    greeting_plugin: what the greeting proposes where it is not the server's; RDS has mysql_native_password for IAM.
    """

    def __init__(self, *arguments: Any, greeting_plugin: str | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.greeting_plugin = greeting_plugin

    def log_in(self, client: Channel, channels: list[Channel]) -> Channel | None:
        """Pass the greeting on, do the TLS that the client asks for, and check what it says."""
        server = _Packets(self.dial(channels))
        there = _Packets(client)
        first = server.read()
        if first[0] == _ERROR:  # too many connections, or a host that is blocked
            there.write(first)
            return None
        greeting = _Greeting.parse(first)
        has_tls = self.certificate is not None
        plugin = self.check if self.check in _KEY_WANTED else self.greeting_plugin or greeting.plugin
        there.write(greeting.build(plugin, has_tls))
        answer = there.read()
        if has_tls and len(answer) == 32 and int.from_bytes(answer[:4], "little") & CLIENT.SSL:
            self.secure(client)
            answer = there.read()
        response = _Response.parse(answer)
        notes = {"database": response.database.decode()}
        try:
            if client.tls is None and self.check == "iam":
                raise _denied(client, response, "the channel has no TLS")
            if self.check == "native":
                final = _pass_on(there, server, greeting, response)
            elif self.check == "iam":
                final = self._by_token(there, server, greeting, response, notes)
            else:
                raise self._hostile(there, greeting, response, plugin)
            self.record(client, response.user.decode(), None, **notes)
        except Refused as error:
            self.record(client, response.user.decode(), error, **notes)
            there.write(error.answer)
            return None
        there.write(final)
        return server.channel

    def _by_token(
        self, client: _Packets, server: _Packets, greeting: _Greeting, response: _Response, notes: dict[str, str]
    ) -> bytes:
        client.write(bytes([_SWITCH]) + b"mysql_clear_password\0")
        notes["token"] = client.read().rstrip(b"\0").decode(errors="replace")
        if problem := self.fault(notes["token"], response.user.decode()):
            raise _denied(client.channel, response, problem)
        return _log_in(server, greeting, response, self.upstream_user, self.upstream_password)

    def _hostile(self, client: _Packets, greeting: _Greeting, response: _Response, plugin: str) -> Refused:
        switch = {
            "clear": b"mysql_clear_password\0",
            "dialog": b"dialog\0\x04Password: ",
            "mysql_old_password": b"mysql_old_password\0" + greeting.salt[:8] + b"\0",
        }.get(self.check)
        if switch is not None:
            client.write(bytes([_SWITCH]) + switch)
            said = client.read()
            self.answers.append(said)
            if self.check != "mysql_old_password":
                self.learned.append(said.rstrip(b"\0"))
            return _denied(client.channel, response, "")
        said = response.auth
        if response.plugin.decode() != plugin:
            client.write(bytes([_SWITCH]) + plugin.encode() + b"\0" + greeting.salt + b"\0")
            said = client.read()
        if plugin == "caching_sha2_password":
            client.write(bytes([_MORE, _FULL]))
            said = client.read()
        if said == _KEY_WANTED[plugin]:
            client.write(bytes([_MORE]) + _public_pem())
            said = client.read()
        self.answers.append(said)
        if len(said) == _own_key().key_size // 8:
            said = _xor(_own_key().decrypt(said, _OAEP), greeting.salt)
        self.learned.append(said.rstrip(b"\0"))
        return _denied(client.channel, response, "")


class _Packets:
    """The packets of a login on one side, which are counted."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._number = -1

    def read(self) -> bytes:
        """The body of the next packet."""
        head = self.channel.read(4)
        self._number = head[3]
        return self.channel.read(int.from_bytes(head[:3], "little"))

    def write(self, body: bytes) -> None:
        """Send a body as the packet after the last one, either way."""
        self._number = (self._number + 1) % 256
        self.channel.send(len(body).to_bytes(3, "little") + bytes([self._number]) + body)


@dataclass(frozen=True, slots=True)
class _Greeting:
    """A server's first packet. `head` is all before the flags; `middle` is what stands between them; `tail` behind."""

    head: bytes
    flags: int
    middle: bytes
    tail: bytes
    salt: bytes
    plugin: str

    @classmethod
    def parse(cls, body: bytes) -> _Greeting:
        at = body.index(b"\0", 1) + 1 + 4 + 8 + 1  # the version, the connection's id, half of the salt, a zero
        low, middle, high = body[at : at + 2], body[at + 2 : at + 5], body[at + 5 : at + 7]
        tail, plugin = body[at + 7 : at + 31], body[at + 31 :].rstrip(b"\0").decode()
        salt = body[at - 9 : at - 1] + tail[11:23]
        return cls(body[:at], int.from_bytes(low + high, "little"), middle, tail, salt, plugin)

    def build(self, plugin: str, has_tls: bool) -> bytes:
        """The packet for the client."""
        bits: int = self.flags | CLIENT.SSL if has_tls else self.flags & ~CLIENT.SSL
        flags = bits.to_bytes(4, "little")
        return self.head + flags[:2] + self.middle + flags[2:] + self.tail + plugin.encode() + b"\0"


@dataclass(frozen=True, slots=True)
class _Response:
    """HandshakeResponse41. `settings` is what stands between the flags and the user."""

    flags: int
    settings: bytes
    user: bytes
    auth: bytes
    database: bytes
    plugin: bytes
    rest: bytes

    @classmethod
    def parse(cls, body: bytes) -> _Response:
        flags = int.from_bytes(body[:4], "little")
        user, _, rest = body[32:].partition(b"\0")
        if flags & (CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA | CLIENT.SECURE_CONNECTION):
            size, start = rest[0], 1
            if size == 0xFC:
                size, start = int.from_bytes(rest[1:3], "little"), 3
            auth, rest = rest[start : start + size], rest[start + size :]
        else:
            auth, _, rest = rest.partition(b"\0")
        database = plugin = b""
        if flags & _WITH_DB:
            database, _, rest = rest.partition(b"\0")
        if flags & CLIENT.PLUGIN_AUTH:
            plugin, _, rest = rest.partition(b"\0")
        return cls(flags, body[4:32], user, auth, database, plugin, rest)

    def build(self) -> bytes:
        """The packet for the server, which has no TLS."""
        flags = self.flags & ~CLIENT.SSL
        parts = [flags.to_bytes(4, "little"), self.settings, self.user, b"\0"]
        if len(self.auth) > 250 and flags & CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA:
            parts += [b"\xfc", len(self.auth).to_bytes(2, "little"), self.auth]
        else:
            parts += [bytes([len(self.auth)]), self.auth]
        if flags & _WITH_DB:
            parts += [self.database, b"\0"]
        if flags & CLIENT.PLUGIN_AUTH:
            parts += [self.plugin, b"\0"]
        return b"".join([*parts, self.rest])


def _denied(channel: Channel, response: _Response, reason: str) -> Refused:
    has_password = "YES" if response.auth else "NO"
    host = channel.sock.getpeername()[0]
    text = f"Access denied for user '{response.user.decode()}'@'{host}' (using password: {has_password})"
    return Refused(str(_DENIED), reason or text, struct.pack("<BH6s", _ERROR, _DENIED, b"#28000") + text.encode())


def _refusal(body: bytes) -> Refused:
    code = int.from_bytes(body[1:3], "little")
    return Refused(str(code), body[9:].decode(errors="replace"), body)


# The server's own check -------------------------------------------------------------------------------------


def _said(server: _Packets) -> bytes:
    """What the server says to a login: OK, or how it goes on; raises Refused."""
    body = server.read()
    if body[0] == _ERROR:
        raise _refusal(body)
    return body


def _switched(body: bytes) -> tuple[str, bytes]:
    """The plugin that the server wants, and its salt."""
    name, _, data = body[1:].partition(b"\0")
    return name.decode(), data[:20]


def _pass_on(client: _Packets, server: _Packets, greeting: _Greeting, response: _Response) -> bytes:
    """Carry packets both ways until the server has decided; returns its OK packet, raises Refused."""
    server.write(response.build())
    salt, plugin = greeting.salt, response.plugin.decode()
    while True:
        body = _said(server)
        if body[0] == _OK:
            return body
        client.write(body)
        if body[0] == _SWITCH:
            plugin, salt = _switched(body)
        if body == bytes([_MORE, _FAST_OK]):
            continue
        answer = client.read()
        if body == bytes([_MORE, _FULL]) and plugin == "caching_sha2_password" and client.channel.tls is not None:
            # The client sends its password in clear on TLS. The server sees no TLS: it gets what it would have got.
            answer = _encrypted(server, answer.rstrip(b"\0"), salt)
        server.write(answer)


def _encrypted(server: _Packets, password: bytes, salt: bytes) -> bytes:
    server.write(_KEY_WANTED["caching_sha2_password"])
    encrypted: bytes = _auth.sha2_rsa_encrypt(password, salt, server.read()[1:])
    return encrypted


def _log_in(server: _Packets, greeting: _Greeting, response: _Response, user: str, password: str) -> bytes:
    """Log in with a password, and everything else as the client wants it; returns the OK packet, raises Refused."""
    secret = password.encode()
    scrambles = {
        "mysql_native_password": _auth.scramble_native_password,
        "caching_sha2_password": _auth.scramble_caching_sha2,
    }
    plugin, salt = greeting.plugin, greeting.salt
    flags = (response.flags | CLIENT.PLUGIN_AUTH | CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA) & ~_CONNECT_ATTRS
    auth = scrambles[plugin](secret, salt)
    ours = replace(response, flags=flags, user=user.encode(), auth=auth, plugin=plugin.encode(), rest=b"")
    server.write(ours.build())
    while True:
        body = _said(server)
        if body[0] == _OK:
            return body
        if body[0] == _SWITCH:
            plugin, salt = _switched(body)
            server.write(scrambles[plugin](secret, salt))
        elif body == bytes([_MORE, _FULL]):
            server.write(_encrypted(server, secret, salt))


# A hostile server's key -------------------------------------------------------------------------------------

_OAEP = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA1()), algorithm=hashes.SHA1(), label=None)


@functools.cache
def _own_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _public_pem() -> bytes:
    return _own_key().public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip


def _xor(data: bytes, salt: bytes) -> bytes:
    return bytes(byte ^ salt[at % len(salt)] for at, byte in enumerate(data))
