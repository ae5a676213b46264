"""Every psycopg feature runs on a private connection and on a multiplexed one, with the same assertions."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

import rdsproxy_lib
from rdsproxy_lib.pool import Pool

SECONDS = 15.0
"""How long a test waits for something that has to happen; never how long it takes."""

DATABASE = "features"

OBJECTS = """
    create table feature_items (id int primary key, name text);
    create table feature_children (item int references feature_items (id) deferrable initially deferred);
    create type feature_mood as enum ('glad', 'sad');
    create type feature_pair as (number int, word text);
    create type feature_span as range (subtype = text, multirange_type_name = feature_multispan);
"""


class Sessions:
    """Opens connections of one kind, and says at the end whether one of them still holds something.

    private: the driver's own. multiplexed: ours. rivals: ours, and each backend that is given back is at once
    seized by another session.
    """

    def __init__(self, server: Any, kind: str) -> None:
        self.kind = kind
        self.dsn = server.dsn()
        self.opened: list[psycopg.Connection[Any]] = []
        self.allowed: set[str] = set()
        self.proxy = None
        self.rivals = None
        if kind != "private":
            limit = 4 if kind == "multiplexed" else 6
            self.proxy = rdsproxy_lib.Proxy(server.url(), max_connections=limit, connection_borrow_timeout=10)
            self.rivals = Rivals(self.proxy, seize_always=kind == "rivals")

    def __call__(self, **keywords: Any) -> psycopg.Connection[Any]:
        conn = self.proxy.connect(**keywords) if self.proxy else psycopg.connect(self.dsn, **keywords)
        self.opened.append(conn)
        return conn

    def may_pin(self, *reasons: str) -> None:
        """Sessions of this test may end pinned, for no other reasons than these."""
        self.allowed.update(reasons)

    def finish(self) -> None:
        """Roll back, look for pins and borrowed backends, close, and look again."""
        try:
            if self.rivals:
                self.rivals.finish()
            alive = [conn for conn in self.opened if not conn.closed]
            for conn in alive:
                if conn.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    conn.rollback()
            if self.proxy:
                pins = {reason.name for conn in alive for reason in conn.rdsproxy.pin_reasons}
                assert pins <= self.allowed
                assert pins or self.proxy.stats().database_connections_currently_borrowed == 0
        finally:
            for conn in self.opened:
                conn.close()
            if self.proxy:
                held = self.proxy.stats().database_connections_currently_borrowed
                self.proxy.close()
                assert held == 0


class Rivals:
    """Two other sessions that take turns at the backend which was given back last.

    The one opens a transaction there, with settings and prepared statements of its own, and the other lets go
    of its backend: that is the one which a session comes back on if it is truly multiplexed.
    """

    def __init__(self, proxy: Any, *, seize_always: bool) -> None:
        self.proxy = proxy
        self.sessions: list[psycopg.Connection[Any]] = []
        self.busy = threading.Lock()
        self.patch = pytest.MonkeyPatch()
        if seize_always:
            give_back = Pool.give_back

            def give_back_to_rivals(pool: Pool, backend: Any) -> None:
                give_back(pool, backend)
                self.seize()

            self.patch.setattr(Pool, "give_back", give_back_to_rivals)

    def seize(self) -> None:
        if not self.busy.acquire(blocking=False):
            return  # a rival itself gave back, or another thread is at it
        try:
            if not self.sessions:
                self.sessions = [self.proxy.connect() for _ in range(2)]
            self.sessions.reverse()
            taking, leaving = self.sessions
            taking.execute("set local timezone to 'Pacific/Honolulu'")
            taking.execute("select 'rival', %s", [1], prepare=True)
            leaving.commit()  # a rollback would make the driver forget what is prepared there
        finally:
            self.busy.release()

    def finish(self) -> None:
        self.patch.undo()
        for session in self.sessions:
            session.close()


class Rival:
    """Asks rivals to seize the backend that was given back last, and watches sessions move on to others."""

    def __init__(self, connect: Sessions) -> None:
        self.connect = connect
        self.seen: dict[psycopg.Connection[Any], set[int]] = defaultdict(set)

    def __call__(self, *watched: psycopg.Connection[Any]) -> None:
        if self.connect.rivals:
            for conn in watched:
                self.seen[conn].add(conn.rdsproxy.backend_id)
            self.connect.rivals.seize()

    def finish(self) -> None:
        for conn, backends in self.seen.items():
            assert len(backends) >= 2, f"{conn} was never moved to another backend"


class Same:
    """Runs one story on a private and on a multiplexed connection and compares what it returned or raised."""

    def __init__(self, server: Any, clean: Callable[[], None]) -> None:
        self.kinds = [Sessions(server, kind) for kind in ("private", "rivals")]
        self.clean = clean

    def __call__(self, story: Callable[[psycopg.Connection[Any]], Any], **keywords: Any) -> Any:
        private, multiplexed = (self.run(connect, story, keywords) for connect in self.kinds)
        assert multiplexed == private
        return private

    def run(self, connect: Sessions, story: Callable[..., Any], keywords: dict[str, Any]) -> Any:
        self.clean()
        conn = connect(**keywords)
        try:
            outcome = story(conn)
        except (psycopg.Error, TypeError, ValueError, LookupError) as error:
            words = re.sub(r" at 0x[0-9a-f]+", "", str(error))
            outcome = type(error), getattr(error, "sqlstate", None), words
        if connect.proxy and not conn.closed:
            assert {reason.name for reason in conn.rdsproxy.pin_reasons} <= connect.allowed
        conn.close()
        if connect.proxy:
            with connect() as bystander:
                assert bystander.execute("select 'well'").fetchone() == ("well",)
        return outcome

    def may_pin(self, *reasons: str) -> None:
        for connect in self.kinds:
            connect.may_pin(*reasons)

    def finish(self) -> None:
        for connect in self.kinds:
            connect.finish()


class FeatureServer:
    """A server as `tests.servers` has it, seen from the database that the features share, without TLS."""

    def __init__(self, server: Any) -> None:
        self.server = server

    def parameters(self, **overrides: Any) -> dict[str, Any]:
        return self.server.parameters(**{"dbname": DATABASE, "sslmode": "disable", **overrides})

    def dsn(self, **overrides: Any) -> str:
        return self.server.dsn(**{"dbname": DATABASE, "sslmode": "disable", **overrides})

    def url(self, **overrides: Any) -> str:
        return self.server.url(**{"dbname": DATABASE, "sslmode": "disable", **overrides})


@pytest.fixture(scope="session")
def prepared_server(server: Any) -> Iterator[FeatureServer]:
    """The server, with a database that holds the tables and types which the features use."""
    features = FeatureServer(server)
    with server.admin() as admin:
        admin.execute(f"create database {DATABASE} owner {features.parameters()['user']}")
    with psycopg.connect(features.dsn()) as conn:
        conn.execute(OBJECTS)
    yield features
    with server.admin() as admin:
        admin.execute(f"drop database {DATABASE} with (force)")


@pytest.fixture(scope="session")
def admin(prepared_server: Any) -> Iterator[psycopg.Connection[Any]]:
    """A private autocommit connection that looks at the server from outside."""
    with psycopg.connect(prepared_server.dsn(), autocommit=True) as conn:
        yield conn


@pytest.fixture
def clean(admin: psycopg.Connection[Any]) -> Callable[[], None]:
    """Empties the tables: now, and whenever it is called."""

    def empty() -> None:
        admin.execute("delete from feature_children; delete from feature_items")

    empty()
    return empty


@pytest.fixture(params=["private", "multiplexed", "rivals"])
def connect(request: pytest.FixtureRequest, prepared_server: Any, clean: Any) -> Iterator[Sessions]:
    """Opens connections: private ones, then multiplexed ones, then multiplexed ones with rivals."""
    sessions = Sessions(prepared_server, request.param)
    yield sessions
    sessions.finish()


@pytest.fixture
def rival(connect: Sessions) -> Iterator[Rival]:
    """Puts the backends which the sessions of the test give back to other use."""
    rival = Rival(connect)
    yield rival
    rival.finish()


@pytest.fixture
def same(prepared_server: Any, clean: Callable[[], None]) -> Iterator[Same]:
    """Runs a story on both kinds of connection and compares the outcomes."""
    both = Same(prepared_server, clean)
    yield both
    both.finish()


@pytest.fixture
def names(admin: psycopg.Connection[Any]) -> Callable[[], list[str]]:
    """The names that are committed in feature_items, seen from outside."""

    def read() -> list[str]:
        return [name for (name,) in admin.execute("select name from feature_items order by id")]

    return read


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a question is answered with something true, and returns that."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (answer := question()):
            assert time.monotonic() < deadline, "it never happened"
            threading.Event().wait(0.005)
        return answer

    return wait


@pytest.fixture
def running(admin: psycopg.Connection[Any], eventually: Any) -> Callable[[str], int]:
    """Waits until the server runs a statement that contains a text, and returns the backend's pid."""

    def wait(text: str) -> int:
        look = (
            "select pid from pg_stat_activity"
            " where state = 'active' and strpos(query, %s) > 0 and pid <> pg_backend_pid()"
        )
        return eventually(lambda: admin.execute(look, [text]).fetchone())[0]

    return wait
