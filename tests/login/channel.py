"""The bytes of a front: a side of a connection, with TLS or without, and what carries them from one to the other."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from contextlib import suppress

_CHUNK = 65_536
_MOST_QUEUED = 1 << 20


class Channel:
    """One side of a connection. Its own thread reads and writes; any other may `abort`.

    The socket stays a plain one, and TLS is between it and us: so it can be shut down from anywhere.
    """

    def __init__(self, sock: socket.socket, keep: bytearray | None = None) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.tls: ssl.SSLObject | None = None
        self.keep = keep
        self.is_over = False
        self.outbox = bytearray()
        self._inbox = bytearray()

    def secure(self, context: ssl.SSLContext) -> None:
        """Do the handshake, as the server."""
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._coming, self._going, server_side=True)
        self._coming.write(bytes(self._inbox))
        self._inbox.clear()
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                if not (data := self.sock.recv(_CHUNK)):
                    raise EOFError("the client left the handshake") from None
                self._coming.write(data)
            except ssl.SSLError:
                with suppress(OSError):
                    self.flush()  # an alert, which tells the client
                raise
            else:
                break
        self.flush()
        self._take(self._decrypted())  # it may have come together with the end of the handshake

    def arrive(self) -> bytes:
        """What has arrived, decrypted: maybe nothing yet; the end sets `is_over`. Waits only if nothing is there."""
        data = self.sock.recv(_CHUNK)
        self.is_over = not data
        if self.tls is None:
            return data
        self._coming.write(data)
        return self._decrypted()

    def _decrypted(self) -> bytes:
        assert self.tls is not None
        parts = []
        with suppress(ssl.SSLWantReadError):
            while part := self.tls.read(_CHUNK):
                parts.append(part)
            self.is_over = True
        return b"".join(parts)

    def put(self, data: bytes) -> None:
        """Have it sent with the next `flush` or `push`."""
        if self.tls is None:
            self.outbox += data
        elif data:
            self.tls.write(data)

    def push(self) -> None:
        """Send what the socket takes."""
        if self.tls is not None:
            self.outbox += self._going.read()
        if self.outbox:
            with suppress(BlockingIOError):
                del self.outbox[: self.sock.send(self.outbox)]

    def flush(self) -> None:
        """Send everything, and wait for that."""
        if self.tls is not None:
            self.outbox += self._going.read()
        data, self.outbox = self.outbox, bytearray()
        self.sock.sendall(data)

    def send(self, data: bytes) -> None:
        """`put` and `flush`."""
        self.put(data)
        self.flush()

    def read(self, size: int) -> bytes:
        """That many bytes of a login. Raises EOFError."""
        while len(self._inbox) < size:
            if self.is_over:
                raise EOFError("the other side left during the login")
            self._take(self.arrive())
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        return data

    def _take(self, data: bytes) -> None:
        self._inbox += data
        if self.keep is not None:
            self.keep += data

    def peek(self) -> bytes:
        """The first byte of what comes next, which stays."""
        self._inbox[:0] = (first := self.read(1))
        return first

    def rest(self) -> bytes:
        """What arrived and was not read."""
        data = bytes(self._inbox)
        self._inbox.clear()
        return data

    def say_goodbye(self) -> None:
        """Send all there is, and the end."""
        self.sock.settimeout(1.0)
        with suppress(OSError):
            if self.tls is not None:
                with suppress(ssl.SSLError):
                    self.tls.unwrap()
            self.flush()
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Wake the thread that waits for this channel: it finds the end."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self, *, reset: bool = False) -> None:
        """Close the socket."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def carry(client: Channel, server: Channel) -> None:
    """Carry bytes both ways until a side ends."""
    lanes = {client.sock.fileno(): (client, server), server.sock.fileno(): (server, client)}
    for source, sink in lanes.values():
        source.sock.setblocking(False)
        sink.put(source.rest())
        sink.push()
    poll = select.poll()
    while not (client.is_over or server.is_over):
        for descriptor, (source, sink) in lanes.items():
            reads = select.POLLIN if len(sink.outbox) < _MOST_QUEUED else 0
            poll.register(descriptor, reads | (select.POLLOUT if source.outbox else 0))
        for descriptor, events in poll.poll():
            source, sink = lanes[descriptor]
            if events & select.POLLOUT:
                source.push()
            if events & ~select.POLLOUT and len(sink.outbox) < _MOST_QUEUED:
                with suppress(BlockingIOError):
                    sink.put(source.arrive())
                    sink.push()
            elif events & (select.POLLHUP | select.POLLERR):
                return
