"""A proxy of one name: which way leads to its hosts, and a name that moves in DNS.

A Multi-AZ instance has one name, as whoever stands behind an address that is handed over: after a failover it leads to
another host. Until it does, the old one may come back as a reader. Nothing is remembered of where it led: for each
database connection the resolver of the system is asked anew.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from . import errors
from .backend import OpenFailed, Refusal, Way
from .cluster import ADMITS_AGAIN, ASK_AGAIN, ASK_SECONDS, SEARCH_SECONDS, Cluster, HostOpener, WriterOpener, asked
from .endpoint_names import CLUSTER_KINDS, PROXY_KINDS, Kind, parsed
from .topology import Endpoint, Role

logger = logging.getLogger(__name__)


class NameOpener(HostOpener, Protocol):
    """What is needed of an engine for one name, beside what a cluster needs of it."""

    is_demoted_alive: bool
    """Whether a server may become a reader under its open connections."""

    @property
    def place(self) -> Endpoint | None:
        """Where its logins go unless they say otherwise: one name or address.

        None for a socket, an address that the user has fixed, several hosts, or a reader by `target_session_attrs`.
        """

    def place_of(self, backend: Any) -> Endpoint:
        """Where a backend is: the name, with the address that it led to. No I/O."""

    def is_reader(self, backend: Any) -> bool:
        """Whether its host took no writes when it was opened. No I/O, but with PostgreSQL before 14.

        Raises the driver's errors.
        """


def way_to(
    engine: NameOpener, endpoints: Sequence[Endpoint], retire: Callable[[], None], patience: float
) -> tuple[Cluster | None, Way]:
    """The cluster that a proxy's hosts are, None for one host; and what opens backends there.

    `endpoints` are the hosts where several were named. Where one is a cluster's name, it is asked for the hosts behind.
    `patience` is that of WriterOpener.
    """
    place = engine.place
    named = endpoints or ((place,) if place is not None else ())
    kinds = [parsed(each.host).kind for each in named]
    if endpoints or Kind.WRITER in kinds:
        seeds = [each for each, kind in zip(named, kinds, strict=True) if kind in CLUSTER_KINDS]
        if seeds:  # the others are hosts of the cluster too, under the same or other names
            seeds.sort(key=lambda each: parsed(each.host).kind is not Kind.WRITER)
            cluster = Cluster(engine, (), retire, seeds=seeds)
        else:
            cluster = Cluster(engine, endpoints, retire)
        return cluster, WriterOpener(engine, cluster, patience)
    if place is None or kinds[0] in PROXY_KINDS:
        return None, engine
    if kinds[0] in CLUSTER_KINDS:
        cluster = Cluster(engine, (), retire, seeds=[place])
        return cluster, GroupOpener(engine, cluster, place)
    return None, NamedHost(engine, place, retire)


@contextmanager
def _closed_unless_answered(engine: NameOpener, backend: Any) -> Iterator[None]:
    """Close a backend just opened where a question to it fails, or is interrupted. Raises OpenFailed."""
    try:
        yield
    except Exception as error:
        engine.close(backend)
        raise OpenFailed(error, Refusal.TRANSIENT) from None
    except BaseException:
        engine.close(backend)
        raise


class GroupOpener:
    """Opens backends where a cluster's reader or custom endpoint leads: who named that wants those hosts."""

    def __init__(self, engine: NameOpener, cluster: Cluster, place: Endpoint) -> None:
        self._engine = engine
        self._cluster = cluster
        self._place = place

    def open(self, login: Any, timeout: float) -> Any:
        """As the engine's, and notes which hosts there are. Raises OpenFailed."""
        backend = self._engine.open(login, timeout)
        with _closed_unless_answered(self._engine, backend):
            self._cluster.refresh_list(backend, self._place)
        return backend


class NamedHost:
    """Opens backends where a name leads: wherever that is, but once it was a writer, on a writer only."""

    def __init__(self, engine: NameOpener, place: Endpoint, retire: Callable[[], None]) -> None:
        self._engine = engine
        self._place = place
        self._retire = retire
        self._is_writers = False
        """Whether it ever led to one."""
        self._asked_at = -math.inf
        """When an address was asked last because it had refused a write: not more often than ASK_AGAIN."""

    def open(self, login: Any, timeout: float) -> Any:
        """A backend. Waits up to a second where the name still leads to a former writer. Raises OpenFailed."""
        started = time.monotonic()
        deadline = started + timeout
        while True:
            turn = time.monotonic()
            backend = self._engine.open(login, max(0.001, deadline - turn))
            if self._is_taken(backend):
                return backend
            reader = self._engine.place_of(backend)
            self._engine.close(backend)
            for place in self._others(reader):
                with suppress(OpenFailed):  # what there is to say, the next turn says
                    backend = self._engine.open_at(login, max(0.001, deadline - time.monotonic()), place)
                    if self._is_taken(backend):
                        return backend
                    self._engine.close(backend)
            now = time.monotonic()
            if now >= min(deadline, started + SEARCH_SECONDS):
                why = f"{self._place} led to a writer before, and leads to a reader now ({reader.address})"
                error = self._engine.error(errors.NoWriterAvailable, f"{why}; nothing was sent")
                raise OpenFailed(error, Refusal.TRANSIENT)
            time.sleep(max(0.0, turn + ASK_AGAIN - now))

    def _is_taken(self, backend: Any) -> bool:
        with _closed_unless_answered(self._engine, backend):
            is_reader = self._engine.is_reader(backend)
        if not is_reader:
            self._is_writers = True
        return not (is_reader and self._is_writers)

    def _others(self, known: Endpoint) -> list[Endpoint]:
        """The other addresses that the name leads to just now."""
        try:
            found = socket.getaddrinfo(known.host, known.port, type=socket.SOCK_STREAM)
        except OSError:  # the next turn says so, with the driver's error
            return []
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        return [Endpoint(known.host, known.port, each) for each in addresses if each != known.address]

    def is_demoted(self, backend: Any, *, is_idle: bool) -> bool:
        """After an error that says "read-only", which may have other causes: whether its host is a reader now.

        Then no backend is lent again that is open. `is_idle`: it may be asked itself, as nothing is open on it.
        """
        if not self._engine.is_demoted_alive or not self._is_writers:
            return False
        refused_at = time.monotonic()
        pause = self._asked_at + ASK_AGAIN - refused_at
        while True:
            time.sleep(max(0.0, pause))
            self._asked_at = time.monotonic()
            try:
                place = self._engine.place_of(backend)
                answer = asked(self._engine, backend.login, ASK_SECONDS, place, backend if is_idle else None)
            except OpenFailed as failed:
                logger.info("%s said that it takes no writes, and could not be asked: %s", self._place, failed)
                return False
            if answer.role is Role.READ_ONLY:
                break
            if time.monotonic() - refused_at >= self._engine.admits_late:
                return False
            pause = ADMITS_AGAIN
        backend.expires_at = 0.0
        self._retire()
        return True
