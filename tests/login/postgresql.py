"""PostgreSQL's login, with TLS that ends at the front: the server's own, RDS' by token, and a hostile server's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct

from tests.login.channel import Channel
from tests.login.front import Front, Refused

_SSL, _CANCEL, _GSS = 80877103, 80877102, 80877104
_TLS_RECORD = b"\x16"


class PostgresFront(Front):
    """A front of PostgreSQL. More checks: "password" and "md5" ask for that, on any channel, and refuse everyone."""

    alpn = ("postgresql",)

    def log_in(self, client: Channel, channels: list[Channel]) -> Channel | None:
        """Answer requests for encryption until the startup message or a cancel request comes."""
        while True:
            if client.tls is None and self.certificate is not None and client.peek() == _TLS_RECORD:
                self.secure(client)
            head = client.read(8)
            length, code = struct.unpack("!ii", head)
            if code == _SSL and client.tls is None and self.certificate is not None:
                client.send(b"S")
                self.secure(client)
            elif code in (_SSL, _GSS):
                client.send(b"N")
            elif code == _CANCEL:
                server = self.dial(channels)
                server.send(head + client.read(length - 8))
                server.sock.recv(1)  # it closes when it has passed the signal on
                return None
            else:
                words = client.read(length - 8).rstrip(b"\0").split(b"\0")
                return self._start(client, channels, code, dict(zip(words[::2], words[1::2], strict=False)))

    def _start(
        self, client: Channel, channels: list[Channel], version: int, parameters: dict[bytes, bytes]
    ) -> Channel | None:
        parameters.setdefault(b"database", parameters[b"user"])
        user, database = parameters[b"user"].decode(), parameters[b"database"].decode()
        notes = {"database": database}
        try:
            if client.tls is None and self.check == "iam":
                host = client.sock.getpeername()[0]
                raise _fatal(
                    f'no pg_hba.conf entry for host "{host}", user "{user}", database "{database}", no encryption'
                )
            if self.check == "native":
                return self._native(client, channels, _startup(version, parameters), notes)
            if self.check == "iam":
                return self._by_token(client, channels, version, parameters, notes)
            raise self._hostile(client, user)
        except Refused as error:
            self.record(client, user, error, **notes)
            client.send(error.answer)
            return None

    def _native(self, client: Channel, channels: list[Channel], startup: bytes, notes: dict[str, str]) -> Channel:
        server = self.dial(channels)
        server.send(startup)
        while True:
            kind, body = _message(server)
            if kind == b"E":
                raise _refusal(body)
            request = int.from_bytes(body[:4], "big") if kind == b"R" else None
            if request == 0:
                self.record(client, _user(startup), None, **notes)
            client.send(_framed(kind, body))
            if request == 0:
                return server
            if request not in (None, 12):  # the end of SCRAM asks for nothing
                server.send(_framed(*_message(client)))

    def _by_token(
        self,
        client: Channel,
        channels: list[Channel],
        version: int,
        parameters: dict[bytes, bytes],
        notes: dict[str, str],
    ) -> Channel:
        user = parameters[b"user"].decode()
        client.send(_framed(b"R", struct.pack("!i", 3)))
        notes["token"] = _message(client)[1].rstrip(b"\0").decode(errors="replace")
        if problem := self.fault(notes["token"], user):
            raise _fatal(f'PAM authentication failed for user "{user}"', problem)
        server = self.dial(channels)
        server.send(_startup(version, {**parameters, b"user": self.upstream_user.encode()}))
        answer = _log_in(server, self.upstream_user, self.upstream_password)
        self.record(client, user, None, **notes)
        client.send(answer)
        return server

    def _hostile(self, client: Channel, user: str) -> Refused:
        is_md5 = self.check == "md5"
        client.send(_framed(b"R", struct.pack("!i", 5) + b"salt" if is_md5 else struct.pack("!i", 3)))
        answer = _message(client)[1]
        self.answers.append(answer)
        if not is_md5:
            self.learned.append(answer.rstrip(b"\0"))
        return _fatal(f'password authentication failed for user "{user}"', code="28P01")


# Messages ---------------------------------------------------------------------------------------------------


def _message(channel: Channel) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!ci", channel.read(5))
    return kind, channel.read(length - 4)


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _startup(version: int, parameters: dict[bytes, bytes]) -> bytes:
    body = b"".join(name + b"\0" + value + b"\0" for name, value in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, version) + body


def _user(startup: bytes) -> str:
    words = startup[8:].split(b"\0")
    return words[words.index(b"user") + 1].decode()


def _fatal(text: str, reason: str = "", code: str = "28000") -> Refused:
    fields = ("SFATAL", "VFATAL", f"C{code}", f"M{text}", "")
    return Refused(code, reason or text, _framed(b"E", b"".join(f"{field}\0".encode() for field in fields)))


def _refusal(body: bytes) -> Refused:
    fields = {field[:1]: field[1:].decode() for field in body.split(b"\0") if field}
    return Refused(fields[b"C"], fields[b"M"], _framed(b"E", body))


# The front as a client of the server ------------------------------------------------------------------------


def _log_in(server: Channel, user: str, password: str) -> bytes:
    """Log in; returns the AuthenticationOk that ends it, raises Refused. What came before is left out."""
    scram = _Scram(password)
    while True:
        kind, body = _message(server)
        request = int.from_bytes(body[:4], "big") if kind == b"R" else None
        if kind == b"E":
            raise _refusal(body)
        if request == 0:
            return _framed(kind, body)
        if request == 3:
            server.send(_framed(b"p", password.encode() + b"\0"))
        elif request == 5:
            inner = hashlib.md5(f"{password}{user}".encode()).hexdigest().encode()
            server.send(_framed(b"p", b"md5" + hashlib.md5(inner + body[4:]).hexdigest().encode() + b"\0"))
        elif request == 10:
            server.send(_framed(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(scram.first)) + scram.first))
        elif request == 11:
            server.send(_framed(b"p", scram.final(body[4:])))


class _Scram:
    """The client's half of SCRAM-SHA-256 (RFC 7677), without a check of the server."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._bare = b"n=,r=" + base64.b64encode(os.urandom(18))
        self.first = b"n,," + self._bare

    def final(self, challenge: bytes) -> bytes:
        """The answer to the server's first message."""
        said = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(said[b"s"]), int(said[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        bare = b"c=biws,r=" + said[b"r"]
        signed = b",".join((self._bare, challenge, bare))
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return bare + b",p=" + base64.b64encode(proof)
