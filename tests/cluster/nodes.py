"""What a cluster is on either engine: nodes, each a server with a relay in front of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, TcpRelay

PATIENCE = 30.0


def until(is_so: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until something is so, for that many seconds."""
    deadline = time.monotonic() + patience
    while not (answer := is_so()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.01)
    return answer


class Node:
    """One server of a cluster, reached through its relay."""

    def __init__(self, server: Any, relay: TcpRelay) -> None:
        self.server = server
        self.relay = relay

    @property
    def address(self) -> str:
        return f"{self.relay.host}:{self.relay.port}"

    def kill(self) -> None:
        """Every process of the server at once."""
        self.server.kill()

    def sessions(self) -> int:
        """How many database connections the application has to it."""
        raise NotImplementedError

    def received(self) -> int:
        """How far it has what the writer wrote; to be compared with that of other nodes."""
        raise NotImplementedError

    def fence(self) -> None:
        """Make sure that nobody is served by it any more, whatever became of it: its clients are told."""
        self.kill()
        self.relay.stop()


class Cluster:
    """`with …Cluster(…) as cluster:` starts the nodes; the first one is the writer."""

    kind: str
    scheme: str

    def __init__(self) -> None:
        self.nodes: list[Any] = []

    def __enter__(self) -> Any:
        with ExitStack() as stack:
            self._stack = stack
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        """Start the nodes, and let them replicate."""
        raise NotImplementedError

    def _start(self, server: Any, kind: type[Node]) -> None:
        self._stack.enter_context(server)
        self.nodes.append(kind(server, self._stack.enter_context(TcpRelay(server.host, server.port))))

    def successor(self) -> Any:
        """The node to be promoted: a commit waited for one of them, which has what the others may not have."""
        return max(self.nodes[1:], key=lambda node: node.received())

    def url(self, **query: Any) -> str:
        """All nodes, through their relays."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        hosts = ",".join(node.address for node in self.nodes)
        return f"{self.scheme}://{APP_USER}:{APP_PASSWORD}@{hosts}/{APP_DATABASE}" + (f"?{options}" if options else "")
