"""Sixteen threads that work while something is done to their passwords: what went wrong, and how much went well.

The Proxy that they work with, and the clusters behind it, are here too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rdsproxy_lib
from tests.cluster import mysql, postgresql
from tests.cluster.history import run
from tests.cluster.nodes import until
from tests.login.authority import Authority
from tests.login.front import Front
from tests.login.place import tls_of
from tests.login.postgresql import PostgresFront
from tests.servers import APP_DATABASE

THREADS = 16
LIFETIME = 0.2
"""Seconds after which database connections are replaced here, so that somebody logs in all the time."""
CLUSTERS: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=1),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
}


@contextmanager
def opened(fronts: Sequence[Front], authority: Authority, source: Any, **options: Any) -> Iterator[rdsproxy_lib.Proxy]:
    """A Proxy of these fronts."""
    scheme = "postgresql" if isinstance(fronts[0], PostgresFront) else "mysql"
    hosts = ",".join(f"{front.host}:{front.port}" for front in fronts)
    given = {"connection_max_lifetime": LIFETIME, "connection_borrow_timeout": 20, **options}
    tls = tls_of("verify-identity", authority)
    with rdsproxy_lib.Proxy(f"{scheme}://{hosts}/{APP_DATABASE}", credentials=source, tls=tls, **given) as proxy:
        yield proxy


class Load:
    """`with Load(proxy) as load:` sessions open, read, write and close, each thread for itself."""

    def __init__(self, proxy: rdsproxy_lib.Proxy) -> None:
        self.errors: list[Exception] = []
        self.longest = 0.0
        """Seconds that one session took at most."""
        self._proxy = proxy
        self._stop = threading.Event()
        self._turns = [0] * THREADS
        self._threads = [threading.Thread(target=self._work, args=(at,), name=f"load-{at}") for at in range(THREADS)]

    def __enter__(self) -> Load:
        with self._proxy.connect(autocommit=True) as conn:
            run(conn, "create table load_numbers (number int not null)")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + 60
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = [thread.name for thread in self._threads if thread.is_alive()]
        assert not hung, f"these hang: {hung}"

    @property
    def turns(self) -> int:
        """How many sessions came to their end without an error."""
        return sum(self._turns)

    def go_on(self) -> None:
        """Every thread gets through a session that it begins after this."""
        before = self._turns.copy()
        until(lambda: all(now >= then + 2 for now, then in zip(self._turns, before, strict=True)), "all go on")

    def written(self) -> tuple[int, int]:
        """How many rows there are, and how many were acknowledged. Once the threads have ended."""
        with self._proxy.connect(autocommit=True) as conn:
            ((count,),) = run(conn, "select count(*) from load_numbers")
        return count, self.turns

    def _work(self, at: int) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                with self._proxy.connect(autocommit=True) as conn:
                    run(conn, "insert into load_numbers values (%s)", (at,))
            except Exception as error:
                self.errors.append(error)
                time.sleep(0.05)  # else one that is refused at once fills the list
            else:
                self._turns[at] += 1
                time.sleep(0.002)
            self.longest = max(self.longest, time.monotonic() - began)


def check(load: Load) -> None:
    """No error, and every row that was acknowledged is there, once."""
    causes: list[Any] = [(error, error.__cause__) for error in load.errors[:3]]
    assert not load.errors, f"{len(load.errors)} errors, such as {causes}"
    written, acknowledged = load.written()
    assert written == acknowledged
