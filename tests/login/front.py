"""A front stands between clients and a real server: it does the TLS and the login, then only carries bytes.

What is the same for both engines is here; `postgresql.py` and `mysql.py` have the logins.
"""

from __future__ import annotations

import functools
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.login.authority import Authority, Kind
from tests.login.channel import Channel, carry
from tests.login.tokens import LONGEST, AccessKey, fault
from tests.servers import APP_PASSWORD, APP_USER, HOST, free_port

KEY_ID, SECRET_KEY, REGION = "AKIDRDSPROXYTESTS", "rdsproxy-tests-secret-key", "eu-west-1"
NAME = "shop-1.c1a2b3.eu-west-1.rds.amazonaws.com"

_TIMEOUT = 30.0
_DENIED = {"28000", "28P01", "1045"}


class Refused(Exception):
    """The login is not accepted.

    code, reason: for the records. answer: what the client is to get still; nothing, where the server told it.
    """

    def __init__(self, code: str, reason: str, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.code = code
        self.answer = answer


class Address(Protocol):
    """Where a server is: PostgresServer, MySQLServer and TcpRelay have this."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Login:
    """A login that was decided. `code` is SQLSTATE or MySQL's error number, empty when it was accepted.

    reason: what the front thought, or the server said. token: what came as the password, where the front sees it.
    at: of time.time(). tls: as TLSv1.3, or None. database: empty where the client did not say.
    """

    user: str
    code: str = ""
    reason: str = ""
    token: str | None = None
    at: float = 0.0
    tls: str | None = None
    database: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether the client got in."""
        return not self.code


class Front:
    """Listens on an address of this machine during `with Front(server, ...) as front:`. All may be set later too.

    server: where the real one is; a failover is `front.server = other`.
    check: who decides a login. "native": the server. "iam": the front, by the token, as RDS does; the server then gets
        `upstream_user` and `upstream_password`. Each engine has more, which only want to know the password.
    authority, certificate: what TLS is done with; no certificate: there is none. tls_max: the highest version.
    client_ca: clients must have a certificate of this CA.
    names: of AWS' that lead here; aws_port: the port with them, if it is another than that of the front.
    keys, lifetime: of tokens, see tokens.py.
    """

    alpn: tuple[str, ...] = ()

    def __init__(
        self,
        server: Address,
        *,
        check: str = "native",
        authority: Authority | None = None,
        certificate: Kind | None = "good",
        tls_max: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
        client_ca: Path | None = None,
        names: Collection[str] = (NAME,),
        aws_port: int | None = None,
        host: str = HOST,
        port: int | None = None,
    ) -> None:
        self.server = server
        self.check = check
        self.authority = authority
        self.certificate = certificate if authority is not None else None
        self.tls_max = tls_max
        self.client_ca = client_ca
        self.host = host
        self.port = free_port() if port is None else port
        self.names = set(names)
        self.aws_port = aws_port
        self.keys = {KEY_ID: AccessKey(SECRET_KEY)}
        self.lifetime: float = LONGEST
        self.upstream_user = APP_USER
        self.upstream_password = APP_PASSWORD
        self.accepted = 0
        """How many connections came, whatever became of them."""
        self.logins: list[Login] = []
        self.received = bytearray()
        """What clients sent until their login was decided, as it was before TLS."""
        self.answers: list[bytes] = []
        """What clients answered to the request of a hostile check."""
        self.learned: list[bytes] = []
        """The passwords in these answers, that were in clear or could be decrypted."""
        self.errors: list[BaseException] = []
        """What went wrong in the front itself."""
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._channels: dict[Channel, None] = {}
        self._threads: dict[threading.Thread, None] = {}

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert not self.errors, self.errors

    @property
    def refused(self) -> list[Login]:
        """The logins that were refused for what the client said it was, not for what the server was doing."""
        return [login for login in self.logins if login.code in _DENIED]

    def start(self) -> None:
        """Listen, on the same port every time."""
        assert self._listener is None, "the front is already listening"
        self._listener = socket.create_server((self.host, self.port), backlog=256)
        self._acceptor = self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Close the port and every connection. Idempotent; start() undoes it."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()  # it starts the others
        with self._lock:
            channels, threads = list(self._channels), list(self._threads)
        for channel in channels:
            channel.abort()
        for thread in threads:
            thread.join()
        listener.close()

    # Threads: one accepts, each connection has one

    def _spawn(self, target: Any, *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:
                self.errors.append(error)
            finally:
                with self._lock:
                    self._threads.pop(thread, None)

        thread = threading.Thread(target=run, name=f"{type(self).__name__}-{self.port}", daemon=True)
        with self._lock:
            self._threads[thread] = None
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # stop() shut it down; or the client left again
                with self._lock:
                    if self._listener is not listener:
                        return
                continue
            self.accepted += 1
            client = Channel(sock, self.received)
            if not self._add(client):
                client.close(reset=True)
                return
            self._spawn(self._serve, client)

    def _add(self, channel: Channel) -> bool:
        with self._lock:
            if self._listener is None:
                return False
            self._channels[channel] = None
            return True

    def _remove(self, channel: Channel, *, reset: bool) -> None:
        with self._lock:
            self._channels.pop(channel, None)
            channel.close(reset=reset)

    def _serve(self, client: Channel) -> None:
        is_broken = False
        channels = [client]
        try:
            client.sock.settimeout(_TIMEOUT)
            if (server := self.log_in(client, channels)) is not None:
                client.keep = None
                carry(client, server)
        except EOFError:
            pass
        except OSError:
            is_broken = True
        finally:
            for channel in channels:
                if not is_broken:
                    channel.say_goodbye()
                self._remove(channel, reset=is_broken)

    # For the engines

    def log_in(self, client: Channel, channels: list[Channel]) -> Channel | None:
        """Do the login; returns the server that the client is joined to from now on, if any."""
        raise NotImplementedError

    def dial(self, channels: list[Channel]) -> Channel:
        """A connection to the server, which is closed with the client's."""
        address = self.server
        server = Channel(socket.create_connection((address.host, address.port), timeout=_TIMEOUT))
        channels.append(server)
        if not self._add(server):
            raise ConnectionAbortedError("the front stops")
        return server

    def secure(self, client: Channel) -> None:
        """Do the handshake with the certificate of now."""
        assert self.authority is not None
        assert self.certificate is not None
        files = self.authority.certificate(self.certificate)
        try:
            context = _context(*files, self.tls_max, self.client_ca, self.alpn)
        except OSError as error:
            raise RuntimeError("the front cannot use its certificate") from error
        try:
            client.secure(context)
        except ssl.SSLError as error:
            raise EOFError("the handshake failed") from error

    def fault(self, token: str, user: str) -> str:
        """What is wrong with a token, or nothing."""
        port = self.aws_port or self.port
        return fault(
            token,
            user=user,
            endpoints={f"{name}:{port}" for name in self.names},
            region=REGION,
            keys=self.keys,
            lifetime=self.lifetime,
            now=time.time(),
        )

    def record(self, client: Channel, user: str, error: Refused | None, **more: str) -> None:
        """Note a login that was decided, before the client knows."""
        code, reason = (error.code, str(error)) if error is not None else ("", "")
        tls = client.tls.version() if client.tls is not None else None
        self.logins.append(Login(user, code, reason, at=time.time(), tls=tls, **more))


@functools.cache
def _context(
    certificate: Path, key: Path, tls_max: ssl.TLSVersion, client_ca: Path | None, alpn: tuple[str, ...]
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls_max in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context.set_ciphers("ALL:@SECLEVEL=0")  # their signatures are weak
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = tls_max
    else:
        context.maximum_version = tls_max
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
