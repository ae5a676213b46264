"""What a server answers to whoever comes, and that asking keeps no other thread from running."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

import rdsproxy_lib
from rdsproxy_lib.backend import OpenFailed, Refusal
from rdsproxy_lib.engines.postgresql_ping import refusal_at


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def error(state: bytes) -> bytes:
    return message(b"E", b"SFATAL\0VFATAL\0C" + state + b"\0Msorry\0\0")


@contextmanager
def peer(*answers, family=socket.AF_INET, address=("127.0.0.1", 0)):
    """Listens, and gives an answer to the first packet of each connection in turn; None closes it, ... says nothing."""
    kept = []
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()

        def serve():
            for answer in answers:
                with suppress(OSError):
                    connection, _ = listener.accept()
                    connection.recv(1000)
                    if answer is None:
                        connection.close()
                        continue
                    kept.append(connection)
                    if answer is not ...:
                        for byte in range(len(answer)):
                            connection.sendall(answer[byte : byte + 1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (error(b"57P03"), "57P03"),
        (error(b"53300"), "53300"),
        (message(b"E", b"SFATAL\0Mno code\0\0"), ""),
        (message(b"R", b"\0\0\0\5salt"), ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
        (b"", None),
        (None, None),
        (..., None),
    ],
)
def test_answers(answer, state):
    """The SQLSTATE of a refusal; nothing where the server goes on; None where it is no server, or silent."""
    with peer(answer) as (host, port):
        assert refusal_at(host, port, 0.5) == state


def test_a_port_where_nobody_listens():
    """None."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert refusal_at("127.0.0.1", free.getsockname()[1], 1) is None


def test_a_unix_socket(tmp_path):
    """Its directory stands for the host."""
    with peer(error(b"57P03"), family=socket.AF_UNIX, address=str(tmp_path / ".s.PGSQL.5432")):
        assert refusal_at(str(tmp_path), 5432, 1) == "57P03"
    assert refusal_at(str(tmp_path), 5433, 1) is None


def test_others_run_while_a_server_is_asked():
    """A login is refused, and then the server says nothing: the other threads of the program go on meanwhile."""
    turns = []
    stop = threading.Event()

    def turn():
        while not stop.wait(0.01):
            turns.append(time.monotonic())

    thread = threading.Thread(target=turn)
    with peer(error(b"28P01"), ...) as (host, port):
        proxy = rdsproxy_lib.Proxy(f"postgresql://app:x@{host}:{port}/app?sslmode=disable")
        thread.start()
        with pytest.raises(OpenFailed) as caught:
            proxy.engine.open(proxy.engine.login(None, None, {}), 1)
        stop.set()
    thread.join()
    assert caught.value.refusal is Refusal.TRANSIENT
    assert len(turns) > 20
    assert max(later - sooner for sooner, later in itertools.pairwise(turns)) < 0.7
