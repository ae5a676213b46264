"""A host that can vanish as the operating system sees it: in a network namespace of its own, behind a real network.

A relay of ours acknowledges in its kernel what it then swallows. Here nothing comes back at all, not even that, so that
keepalive and TCP_USER_TIMEOUT have something to find. Needs root, and `ip` of iproute2.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

FORWARDER = """
import os, socket, sys, threading

def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        os.write(2, b".")

def serve(listener, target):
    while True:
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(target)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()

listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
threading.Thread(target=serve, args=(listener, sys.argv[3]), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

_numbers = itertools.count(1)
PORT = 5000


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class VanishingHost:
    """`with VanishingHost(path) as host:` is reached at `host.address` and PORT, and leads to a unix socket."""

    def __init__(self, target: str) -> None:
        self._target = target
        number = next(_numbers)
        self._name = f"rp{os.getpid()}-{number}"
        # From the addresses that are set aside for tests of networks, RFC 2544.
        place = f"198.18.{os.getpid() % 250}"
        self._ours, self.address = f"{place}.{number * 4 + 1}", f"{place}.{number * 4 + 2}"

    def __enter__(self) -> VanishingHost:
        if shutil.which("ip") is None or os.geteuid() != 0:
            pytest.skip("needs root and `ip`, for a network namespace")
        try:
            _ip("netns", "add", self._name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
        with ExitStack() as stack:
            stack.callback(_ip, "netns", "delete", self._name)
            inner, outer = f"{self._name}i", f"{self._name}o"
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self._name)
            _ip("address", "add", f"{self._ours}/30", "dev", outer)
            _ip("link", "set", outer, "up")
            _ip("-n", self._name, "address", "add", f"{self.address}/30", "dev", inner)
            _ip("-n", self._name, "link", "set", inner, "up")
            program = [sys.executable, "-c", FORWARDER, self.address, str(PORT), self._target]
            forwarder = subprocess.Popen(
                ["ip", "netns", "exec", self._name, *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            stack.enter_context(forwarder)
            stack.callback(forwarder.terminate)
            assert forwarder.stdout is not None
            assert forwarder.stdout.readline() == b"ready\n"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def vanish(self) -> None:
        """From now on nothing that it sends arrives, and it acknowledges nothing."""
        _ip("-n", self._name, "route", "add", "blackhole", f"{self._ours}/32")
