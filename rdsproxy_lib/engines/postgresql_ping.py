"""Whether a PostgreSQL server takes logins, by its answer to the first packet of one; and what its certificate lacks.

libpq's PQping asks the same, but psycopg keeps every thread of the program waiting meanwhile, and a login that failed
tells no SQLSTATE.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time

_PROTOCOL = 3 << 16
_TLS = 80877103
_LONGEST = 30_000
"""No answer to a first packet is longer."""


def refusal_at(host: str, port: int, timeout: float) -> str | None:
    """The SQLSTATE with which the server refuses whoever comes; ``""`` where it asks who it is.

    `host` is a name, an address or the directory of a unix socket; `timeout` is in seconds. None where nothing answers
    that is PostgreSQL.
    """
    deadline = time.monotonic() + timeout
    parameters = b"user\0ping\0database\0ping\0\0"
    try:
        with _connected(host, port, timeout) as peer:
            peer.sendall(struct.pack("!ii", len(parameters) + 8, _PROTOCOL) + parameters)
            kind, body = _answer(peer, deadline)
    except OSError:
        return None
    if kind == b"R":
        return ""
    if kind != b"E":
        return None
    fields = {field[:1]: field[1:] for field in body.split(b"\0")}
    return fields.get(b"C", b"").decode("ascii", "replace")


def fault_at(name: str, address: str, port: int, ca_file: str | None, timeout: float) -> str:
    """What is wrong with the certificate of the server at `address`, for those who trust `ca_file`.

    `timeout` is in seconds. Where it turns out to be good, or cannot be had again, that is said.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # libpq does not ask for it
        context.check_hostname = False
        with _connected(address, port, timeout) as peer:
            peer.sendall(struct.pack("!ii", 8, _TLS))
            if peer.recv(1) != b"S":
                return "the server offers no TLS any more"
            context.wrap_socket(peer, server_hostname=name).close()
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except OSError as error:
        return f"it could not be looked at again ({error})"
    return "it was good when it was looked at again"


def _connected(host: str, port: int, timeout: float) -> socket.socket:
    if not host.startswith(("/", "@")):
        return socket.create_connection((host, port), timeout)
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.settimeout(timeout)
        peer.connect(f"{host}/.s.PGSQL.{port}".replace("@", "\0", 1) if host[0] == "@" else f"{host}/.s.PGSQL.{port}")
    except BaseException:
        peer.close()
        raise
    return peer


def _answer(peer: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    """Kind and body of the first message; what there is of it where it is cut short."""
    data = b""
    while len(data) < 5 or len(data) < 1 + min(_LONGEST, int.from_bytes(data[1:5], "big")):
        peer.settimeout(max(0.001, deadline - time.monotonic()))
        if not (chunk := peer.recv(4096)):
            break
        data += chunk
    return data[:1], data[5:]
