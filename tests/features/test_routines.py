"""Routines on real servers: which of them let the database connection go, and that nothing leaks where they do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from rdsproxy_lib import Proxy, client
from rdsproxy_lib.engines.postgresql import PostgresEngine
from rdsproxy_lib.routines import KEPT_SECONDS
from tests.rival import displacing

OBJECTS = """
    create table items (id int primary key, name text);
    insert into items values (1, 'a'), (2, 'b');
    create function plain(n int) returns int language plpgsql as $$
        declare total int := 0; r items%rowtype;
        begin
            for r in select * from items where id <= n loop total := total + r.id; end loop;
            if total % 2 = 0 then raise debug 'even %', total; end if;
            return total;
        exception when others then return -1;
        end $$;
    create function nested(n int) returns int language sql as 'select plain(n) + plain(n)';
    create function sets() returns text language plpgsql as $$
        begin perform set_config('app.tenant', '7', false); return 'set'; end $$;
    create function stable_sets() returns text stable language sql as
        'select set_config(''app.tenant'', ''7'', false)';
    create function calls_sets() returns text language sql as 'select sets()';
    create function twice(n int) returns int language sql as 'select n';
    create function twice(t text) returns text language plpgsql as $$
        begin set app.tenant = '7'; return t; end $$;
    create procedure adds(n int) language plpgsql as $$
        begin insert into items values (n, 'new'); commit; end $$;
    create procedure adds_and_sets(n int) language plpgsql as $$
        begin call adds(n); set app.tenant = '7'; end $$;
    create function by_default(t text default sets()) returns text language sql as 'select t';
    create function atomic() returns bigint begin atomic select count(*) from items; end;
    create function atomic_sets() returns text begin atomic select 1; select sets(); end;
    create function dynamic() returns void language plpgsql as $$ begin execute 'select 1'; end $$;
    create function locks() returns int language plpgsql as $$
        begin perform pg_advisory_lock_shared(77); return 77; end $$;
    create function stable_locks() returns text stable language sql as 'select pg_advisory_lock_shared(77)::text';
    create function calls_locks() returns int language sql as 'select locks()';
    create function thrice(n int) returns int language sql as 'select n';
    create function thrice(t text) returns text language plpgsql as $$
        begin listen news; return t; end $$;
    create procedure adds_and_keeps(n int) language plpgsql as $$
        begin call adds(n); create temp table kept (a int); end $$;
    create function by_default_locks(n int default locks()) returns int language sql as 'select n';
    create function atomic_locks() returns int begin atomic select 1; select locks(); end;
    create function sets_and_locks() returns int language sql as 'select sets(); select locks()';
    create function sets_any(n text) returns text language sql as $$ select set_config(n, '7', false) $$;
    create aggregate joined(text) (sfunc = textcat, stype = text);
    create schema other;
    create function other."Odd name"() returns int language sql as 'select 1';
"""


@pytest.fixture
def open_proxy(url: str) -> Iterator[Callable[..., Proxy]]:
    """Makes proxies on a database with the routines above, and closes them."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(OBJECTS)
    opened: list[Proxy] = []

    def make(**options: Any) -> Proxy:
        given = {"max_connections": 2, "connection_borrow_timeout": 5, **options}
        opened.append(Proxy(url, **given))
        return opened[-1]

    yield make
    for proxy in opened:
        proxy.close()


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What the servers are asked for."""
    asked: list[set[str]] = []
    ask = PostgresEngine.routine_bodies

    def note(self: Any, backend: Any, names: Any) -> Any:
        asked.append({name.name for name in names})
        return ask(self, backend, names)

    monkeypatch.setattr(PostgresEngine, "routine_bodies", note)
    return asked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock for the ages of verdicts, `ahead` by so many seconds."""
    clock = SimpleNamespace(ahead=0.0)
    monotonic = client.time.monotonic
    monkeypatch.setattr(client.time, "monotonic", lambda: monotonic() + clock.ahead)
    return clock


LOOK = """
    select nullif(current_setting('app.tenant', true), ''), current_setting('work_mem'),
        (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
        (select count(*) from pg_listening_channels()), to_regclass('pg_temp.kept')
"""
NOTHING = (None, "4MB", 0, 0, None)
TENANT = ("7", "4MB", 0, 0, None)


def look(conn: psycopg.Connection[Any]) -> tuple[Any, ...] | None:
    """What a session has of that which the routines set, take, listen for and make."""
    return conn.execute(LOOK).fetchone()


def found(proxy: Proxy) -> tuple[Any, ...] | None:
    """The same for the next session."""
    with proxy.connect(autocommit=True) as conn:
        return look(conn)


def assert_taken_along(proxy: Proxy, conn: Any, expected: tuple[Any, ...] = TENANT) -> None:
    """The session has this on another backend as well, and whoever is on its last one has nothing of it."""
    pid = conn.rdsproxy.backend_id
    assert not conn.rdsproxy.pinned
    with displacing(proxy, conn) as other:
        assert look(other) == NOTHING
        assert look(conn) == expected
        assert (other.rdsproxy.backend_id, conn.rdsproxy.backend_id == pid) == (pid, False)
        conn.rollback()
    assert proxy.stats().pins == {}


HARMLESS = [
    "select plain(2)",
    "select public.plain(2), nested(1)",
    "select * from items where id = plain(1)",
    "insert into items select 10 + plain(2), 'x'",
    "call adds(7)",
    "select atomic()",
    "select joined(name) from items",
    "select twice(1)",
    'select other."Odd name"()',
    "copy (select plain(1)) to stdout",
    "explain analyze select plain(1)",
    "do 'begin perform plain(1); end'",
    "do $$ declare n int; begin select plain(1) into n; raise notice 'n is %', n; end $$",
]
SETTING = [
    "select sets()",
    "select stable_sets()",
    "select calls_sets()",
    "select twice(1), twice('a')",
    "call adds_and_sets(9)",
    "select by_default()",
    "select atomic_sets()",
    "select plain(1), sets()",
    "insert into items select 10 + length(sets()), 'x'",
    "copy (select sets()) to stdout",
    "explain analyze select sets()",
    "do 'begin perform sets(); end'",
    "do 'begin set app.tenant = 7; end'",
    "do $$ begin set app.tenant = '7'; end $$",
    "do $$ begin perform sets(); end $$",
    "do $$ begin perform set_config('app.tenant', '7', false); end $$",
]
PINNING = [
    ("select locks()", "locks(): pg_advisory_lock_shared()"),
    ("select stable_locks()", "stable_locks(): pg_advisory_lock_shared()"),
    ("select calls_locks()", "calls_locks(): pg_advisory_lock_shared() in locks"),
    ("select thrice(1)", "thrice(): LISTEN"),
    ("select thrice('a')", "thrice(): LISTEN"),
    ("call adds_and_keeps(9)", "CALL: CREATE TEMP TABLE"),
    ("select by_default_locks()", "by_default_locks(): pg_advisory_lock_shared() in locks"),
    ("select atomic_locks()", "atomic_locks(): pg_advisory_lock_shared() in locks"),
    ("select dynamic()", "dynamic(): EXECUTE"),
    ("select sets_any('app.tenant')", "sets_any(): set_config()"),
    ("select sets_and_locks()", "sets_and_locks(): pg_advisory_lock_shared() in locks"),
    ("select plain(1), locks()", "locks(): pg_advisory_lock_shared()"),
    ("select sets(), locks()", "locks(): pg_advisory_lock_shared()"),
    ("do 'begin perform locks(); end'", "locks(): pg_advisory_lock_shared()"),
    ("do 'begin set app.tenant = 7; listen news; end'", "DO"),
    ("do 'begin execute ''set app.tenant = 7''; end'", "DO"),
    ("do language plpgsql E'begin end'", "DO"),
    ("do $$ begin create temp table kept (a int); end $$", "DO"),
    ("do $$ begin perform locks(); end $$", "locks(): pg_advisory_lock_shared()"),
]


def run(conn: psycopg.Connection[Any], text: str) -> None:
    if text.startswith("copy"):
        with conn.cursor().copy(text) as copy:
            list(copy)
    else:
        conn.execute(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_a_routine_without_state_does_not_pin(open_proxy: Callable[..., Proxy], text: str) -> None:
    """Two sessions share one database connection, with autocommit and without; nothing is reset."""
    proxy = open_proxy(max_connections=1)
    with proxy.connect(autocommit=True) as one, proxy.connect() as two:
        run(one, text)
        assert not one.rdsproxy.pinned
        two.execute("delete from items where id > 2")
        if not text.startswith("call"):  # the procedure commits, which it cannot in a transaction
            run(two, text)
        assert two.info.transaction_status == TransactionStatus.INTRANS
        two.commit()
        assert not two.rdsproxy.pinned
        assert one.rdsproxy.backend_id == two.rdsproxy.backend_id
    assert proxy.stats().resets == 0
    assert proxy.stats().pins == {}
    assert found(proxy) == NOTHING


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("text", SETTING)
def test_what_a_routine_sets_is_taken_along(open_proxy: Callable[..., Proxy], text: str, autocommit: bool) -> None:
    """The setting is the session's on whatever backend it gets, and nobody else's; nothing pins, nothing is reset."""
    proxy = open_proxy()
    with proxy.connect(autocommit=autocommit or text.startswith("call")) as conn:
        run(conn, text)
        assert conn.rdsproxy.in_transaction == (not conn.autocommit)
        assert look(conn) == TENANT
        conn.commit()
        for _ in range(3):
            assert_taken_along(proxy, conn)
        conn.execute("reset app.tenant")
        conn.commit()
        assert_taken_along(proxy, conn, NOTHING)
    assert found(proxy) == NOTHING
    assert proxy.stats().resets == 0


def test_what_a_routine_sets_follows_the_transaction(open_proxy: Callable[..., Proxy]) -> None:
    """A rollback, to a savepoint too, and an error take it back, for the session as well."""
    proxy = open_proxy()
    with proxy.connect() as conn:
        conn.execute("select sets()")
        conn.rollback()
        assert_taken_along(proxy, conn, NOTHING)
        conn.execute("savepoint a")
        conn.execute("select sets()")
        conn.execute("rollback to a")
        conn.commit()
        assert_taken_along(proxy, conn, NOTHING)
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select sets(), 1 / (random() * 0)::int")
        conn.rollback()
        assert_taken_along(proxy, conn, NOTHING)
        conn.execute("set work_mem = '5MB'")
        conn.execute("select sets()")
        conn.commit()
        assert_taken_along(proxy, conn, ("7", "5MB", 0, 0, None))


def test_what_a_routine_sets_however_it_is_called(open_proxy: Callable[..., Proxy]) -> None:
    """Pipelines, streams, server-side cursors, many at once, and what the driver prepared: all of them are seen."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select sets()")  # amid a pipeline nothing can be asked

    def stream(conn: Any) -> None:
        list(conn.cursor().stream("select sets() from items"))

    def declare(conn: Any) -> None:
        with conn.cursor("named") as cursor:
            cursor.execute("select sets() from items")
            cursor.fetchall()

    def pipeline(conn: Any) -> None:
        with conn.pipeline():
            conn.execute("select sets()")
            conn.execute("select 1")

    def many(conn: Any) -> None:
        conn.cursor().executemany("select sets(), %s::int", [(1,), (2,)])

    def prepared(conn: Any) -> None:
        for number in range(3):
            conn.execute("select sets(), %s::int", [number], prepare=True)

    for call in (stream, declare, pipeline, many, prepared):
        with proxy.connect() as conn:
            call(conn)
            conn.commit()
            assert_taken_along(proxy, conn)
            call(conn)
            conn.rollback()
            assert_taken_along(proxy, conn)
        assert found(proxy) == NOTHING
    assert proxy.stats().resets == 0


@pytest.mark.parametrize(("text", "what"), PINNING)
def test_a_routine_with_state_pins(open_proxy: Callable[..., Proxy], text: str, what: str) -> None:
    """The pin says why, and what the routine left is reset when the session ends."""
    proxy = open_proxy(max_connections=1)
    with proxy.connect(autocommit=True) as conn:
        conn.execute(text)
        assert [pin.what for pin in conn.rdsproxy.pins] == [what]
        left = look(conn)
        leaves_nothing = text in ("select thrice(1)", "select dynamic()", "do language plpgsql E'begin end'")
        assert (left == NOTHING) == leaves_nothing  # of the routines of a name it is not known which one is called
    assert proxy.stats().resets == 1
    assert found(proxy) == NOTHING


def test_an_answer_is_reused_by_all(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """One question per level of calls, and none for those who come later."""
    proxy = open_proxy()
    for _ in range(3):
        with proxy.connect(autocommit=True) as conn:
            conn.execute("select nested(1)")
            conn.execute("select nested(2)")
    assert questions == [{"nested"}, {"plain"}]


def test_plain_statements_ask_nothing(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """A statement without calls of unknown routines never reaches the catalogue."""
    with open_proxy().connect() as conn:
        conn.execute("select lower('A'), count(*) from items")
        conn.execute("set local work_mem = '5MB'")
        conn.execute("select set_config('app.x', 'y', false)")
    assert questions == []


def test_redefined_through_the_proxy(open_proxy: Callable[..., Proxy]) -> None:
    """The new body counts at once, for every session, and again when it changes back."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as one, proxy.connect(autocommit=True) as two:
        one.execute("select plain(1)")
        two.execute("create or replace function plain(n int) returns int language sql as 'select length(sets())'")
        two.execute("select 1")
        one.execute("select plain(1)")
        assert_taken_along(proxy, one)
        assert look(two) == NOTHING
        two.execute("create or replace function plain(n int) returns int language sql as 'select locks()'")
        two.execute("select 1")
        one.execute("select plain(1)")
        assert one.rdsproxy.pinned
        two.execute("create or replace function plain(n int) returns int language sql as 'select 1'")
        two.execute("select plain(1)")
        assert not two.rdsproxy.pinned


def test_redefined_in_a_transaction(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """Until it commits the others see the old body, and keep no verdict on it; the session itself sees the new one."""
    proxy = open_proxy(max_connections=3)
    with proxy.connect() as changing, proxy.connect(autocommit=True) as other:
        other.execute("select plain(1)")
        changing.execute("select 1")
        changing.execute("create or replace function plain(n int) returns int language sql as 'select locks()'")
        other.execute("select plain(1)")
        other.execute("select plain(1)")
        assert not other.rdsproxy.pinned
        assert questions == [{"plain"}] * 3
        changing.execute("select plain(1)")
        assert changing.rdsproxy.pinned
        changing.commit()
        other.execute("select plain(1)")
        assert other.rdsproxy.pinned


def test_a_redefinition_that_is_rolled_back(open_proxy: Callable[..., Proxy]) -> None:
    """The old body counts again, and its verdict is kept again."""
    proxy = open_proxy(max_connections=3)
    with proxy.connect() as changing, proxy.connect(autocommit=True) as other:
        changing.execute("create or replace function plain(n int) returns int language sql as 'select locks()'")
        changing.rollback()
        other.execute("select plain(1)")
        changing.execute("select plain(1)")
        assert not other.rdsproxy.pinned
        assert not changing.rdsproxy.pinned


def test_made_and_called_in_one_text(open_proxy: Callable[..., Proxy]) -> None:
    """What a text makes first nobody can look up before it runs: it pins."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("create function fresh() returns text language sql as 'select sets()'; select fresh()")
        assert conn.rdsproxy.pinned
        assert look(conn) == TENANT
    assert found(proxy) == NOTHING


def test_redefined_elsewhere(open_proxy: Callable[..., Proxy], url: str, clock: SimpleNamespace) -> None:
    """A change past the proxy is seen when the verdict is 300 seconds old."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select plain(1)")
        with psycopg.connect(url, autocommit=True) as elsewhere:
            elsewhere.execute("create or replace function plain(n int) returns int language sql as 'select thrice(n)'")
        conn.execute("select plain(1)")
        assert not conn.rdsproxy.pinned
        clock.ahead = KEPT_SECONDS + 1
        conn.execute("select plain(1)")
        assert [pin.what for pin in conn.rdsproxy.pins] == ["plain(): LISTEN in thrice"]


def test_redefined_elsewhere_to_set_something(
    open_proxy: Callable[..., Proxy], url: str, clock: SimpleNamespace
) -> None:
    """From the moment on that the verdict is 300 seconds old, what the new body sets is taken along."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select plain(1)")
        with psycopg.connect(url, autocommit=True) as elsewhere:
            elsewhere.execute(
                "create or replace function plain(n int) returns int language sql as 'select length(sets())'"
            )
        clock.ahead = KEPT_SECONDS + 1
        conn.execute("select plain(1)")
        assert_taken_along(proxy, conn)


def test_a_routine_that_does_not_exist_yet(open_proxy: Callable[..., Proxy], url: str) -> None:
    """Calling it fails and pins nothing; when somebody makes it, it is judged."""
    with open_proxy().connect(autocommit=True) as conn:
        with pytest.raises(psycopg.errors.UndefinedFunction):
            conn.execute("select later()")
        assert not conn.rdsproxy.pinned
        with psycopg.connect(url, autocommit=True) as elsewhere:
            elsewhere.execute("create function later() returns int language sql as 'select locks()'")
        conn.execute("select later()")
        assert conn.rdsproxy.pinned


def test_databases_have_their_own_routines(open_proxy: Callable[..., Proxy], server: Any, database: str) -> None:
    """The same name in another database of the same proxy is judged by itself."""
    name = f"{database}_other"
    with server.admin() as admin:
        admin.execute(f"create database {name} owner app")
    try:
        proxy = open_proxy()
        with proxy.connect(autocommit=True) as here, proxy.connect(dbname=name, autocommit=True) as there:
            there.execute(
                "create function plain(n int) returns text language sql as"
                " 'select pg_advisory_lock_shared(77)::text';"
                "create function nested(n int) returns text language sql as"
                " 'select set_config(''app.tenant'', ''7'', false)'"
            )
            for conn in (here, there):
                conn.execute("select nested(1)")
                assert not conn.rdsproxy.pinned
            assert (look(here), look(there)) == (NOTHING, TENANT)
            here.execute("select plain(1)")
            there.execute("select plain(1)")
            assert not here.rdsproxy.pinned
            assert there.rdsproxy.pinned
    finally:
        proxy.close()
        with server.admin() as admin:
            admin.execute(f"drop database {name} with (force)")


def test_names_from_the_text_are_only_names(open_proxy: Callable[..., Proxy]) -> None:
    """Quotes, operators and functions of the session's own search_path do not reach into the question."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("create schema evil")
        conn.execute("create function evil.sure(name, name) returns bool language sql as 'select true'")
        conn.execute("create operator evil.= (leftarg = name, rightarg = name, function = evil.sure)")
        conn.execute(
            "create function evil.json_build_array(text, text) returns json language sql as 'select null::json'"
        )
    with proxy.connect(options="-c search_path=evil,public,pg_catalog", autocommit=True) as conn:
        conn.execute("select plain(1)")
        assert not conn.rdsproxy.pinned
        with pytest.raises(psycopg.Error):
            conn.execute("select \"plain'); select set_config('a.b', 'c', false); --\"(1)")


# In the middle of something -------------------------------------------------------------------------------------


def test_in_a_transaction(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """The question is asked inside it, on the same database connection, and leaves no trace there."""
    with open_proxy().connect() as conn:
        conn.execute("insert into items values (3, 'c')")
        pid = conn.rdsproxy.backend_id
        conn.execute("savepoint rdsproxy_lib_routines")
        conn.execute("select plain(3)")
        assert questions == [{"plain"}]
        assert conn.rdsproxy.backend_id == pid
        conn.execute("rollback to rdsproxy_lib_routines")
        conn.commit()
        assert conn.execute("select count(*) from items").fetchone() == (3,)
        assert not conn.rdsproxy.pinned


def test_a_question_that_fails_does_not_end_the_transaction(
    open_proxy: Callable[..., Proxy], server: Any, database: str
) -> None:
    """Where the catalogue may not be read the statement pins as without one, and the transaction goes on."""
    proxy = open_proxy()
    with proxy.connect() as conn, proxy.connect(autocommit=True) as outside:
        conn.execute("insert into items values (3, 'c')")
        with server.admin(database) as admin:
            admin.execute("revoke select on pg_catalog.pg_proc from public")
        try:
            conn.execute("select plain(1)")
            assert [pin.what for pin in conn.rdsproxy.pins] == ["plain()"]
            assert conn.info.transaction_status == TransactionStatus.INTRANS
            conn.commit()
            outside.execute("select plain(1)")
            assert outside.rdsproxy.pinned
        finally:
            with server.admin(database) as admin:
                admin.execute("grant select on pg_catalog.pg_proc to public")
    with proxy.connect() as conn:
        assert conn.execute("select count(*) from items").fetchone() == (3,)


def test_in_a_failed_transaction(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """Nothing can be asked there; what is known counts, what is not pins."""
    with open_proxy().connect() as conn:
        conn.execute("select nested(1)")
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select 1 / 0")
        for text in ("select nested(1)", "select plain(1)"):
            assert not conn.rdsproxy.pinned
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                conn.execute(text)
        assert conn.rdsproxy.pinned
        conn.rollback()
        assert questions == [{"nested"}, {"plain"}, {"plain"}]


def test_a_statement_that_fails(open_proxy: Callable[..., Proxy]) -> None:
    """The error of a harmless routine pins nothing."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("create function fails() returns int language plpgsql as 'begin return 1 / 0; end'")
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select fails()")
        assert not conn.rdsproxy.pinned
        assert proxy.stats().database_connections_currently_borrowed == 0


def test_several_statements_in_a_transaction(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """A question amid a transaction would take its snapshot before the lock that the text takes first: it pins."""
    with open_proxy().connect(autocommit=True) as conn:
        conn.execute("begin isolation level repeatable read")
        conn.execute("lock table items; select plain(1)")
        assert questions == []
        assert conn.rdsproxy.pinned
        conn.execute("commit")


def test_in_a_pipeline(open_proxy: Callable[..., Proxy]) -> None:
    """Amid a pipeline nothing is asked: what is known counts, the rest pins."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select plain(1)")
        with conn.pipeline():
            known = conn.execute("select plain(2)")
            assert known.fetchone() == (3,)
        assert not conn.rdsproxy.pinned
        with conn.pipeline():
            unknown = conn.execute("select nested(2)")
            assert unknown.fetchone() == (6,)
        assert conn.rdsproxy.pinned


def test_streams_server_side_cursors_and_many(open_proxy: Callable[..., Proxy]) -> None:
    """Whatever carries the statement, it is judged before anything is sent."""
    proxy = open_proxy()
    with proxy.connect() as conn:
        assert list(conn.cursor().stream("select plain(2) from items")) == [(3,), (3,)]
        with conn.cursor("named") as cursor:
            assert cursor.execute("select nested(1) from items").fetchall() == [(2,), (2,)]
        cursor = conn.cursor()
        cursor.executemany("select plain(%s)", [(1,), (2,)], returning=True)
        conn.commit()
        assert not conn.rdsproxy.pinned
    assert proxy.stats().resets == 0


def test_the_driver_may_prepare_what_was_judged(open_proxy: Callable[..., Proxy]) -> None:
    """A call that is prepared at once, again and again, by two sessions in turn."""
    proxy = open_proxy(max_connections=1)
    with proxy.connect(autocommit=True) as one, proxy.connect(autocommit=True) as two:
        for _ in range(8):
            for conn in (one, two):
                assert conn.execute("select plain(%s)", [2], prepare=True).fetchone() == (3,)
        assert not one.rdsproxy.pinned
        assert not two.rdsproxy.pinned


def test_a_cancel_during_the_question_is_not_lost(
    open_proxy: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was meant for the statement, which does not run."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select 1")
        ask = PostgresEngine.routine_bodies

        def ask_slowly(self: Any, backend: Any, names: Any) -> Any:
            canceller = threading.Timer(0.1, conn.cancel)
            canceller.start()
            try:
                self._answer(backend, b"select pg_sleep(10)")
            finally:
                canceller.join()
            return ask(self, backend, names)

        monkeypatch.setattr(PostgresEngine, "routine_bodies", ask_slowly)
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("call adds(8)")
        monkeypatch.undo()
        assert not conn.rdsproxy.pinned
        assert conn.execute("select count(*) from items").fetchone() == (2,)


# Options --------------------------------------------------------------------------------------------------------


def test_a_routine_of_an_extension(open_proxy: Callable[..., Proxy], server: Any, database: str) -> None:
    """C says nothing about itself: it pins, until `trusted_routines` names it, with or without its schema."""
    with server.admin(database) as admin:
        admin.execute("create function public.c_code(text) returns text language internal strict as 'upper'")
    for trusted, pinned in (((), True), (("c_*",), False), (("PUBLIC.C_*",), False), (("other.*",), True)):
        proxy = open_proxy(trusted_routines=trusted)
        with proxy.connect(autocommit=True) as conn:
            assert conn.execute("select c_code('a')").fetchone() == ("A",)
            assert conn.rdsproxy.pinned is pinned
            conn.execute("create or replace function wraps() returns text language sql as $$ select c_code('a') $$")
        with proxy.connect(autocommit=True) as conn:
            conn.execute("select wraps()")
            assert conn.rdsproxy.pinned is pinned


@pytest.mark.parametrize(
    "text",
    [
        "select locks()",
        "select sets_and_locks()",
        "select sets_any('app.tenant')",
        "do 'begin execute ''set app.tenant = 7''; end'",
        "do 'begin create temp table items (id int); end'",
        "do 'begin set app.tenant = 7; perform pg_advisory_lock(77); end'",
    ],
)
@pytest.mark.parametrize("autocommit", [True, False])
def test_the_policy_reset_leaks_nothing(open_proxy: Callable[..., Proxy], text: str, autocommit: bool) -> None:
    """The session is not pinned, and whoever gets the database connection next finds nothing."""
    proxy = open_proxy(max_connections=1, routine_policy="reset")
    with proxy.connect(autocommit=autocommit) as conn:
        conn.execute(text)
        assert not conn.rdsproxy.pinned
        if not autocommit:
            conn.execute("select 1")
            assert proxy.stats().resets == 0
            conn.commit()
        assert proxy.stats().resets == 1
        assert found(proxy) == NOTHING
        with proxy.connect(autocommit=True) as other:
            assert other.execute("select count(*) from items").fetchone() == (2,)
            assert other.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() == (0,)
            assert other.rdsproxy.backend_id == conn.rdsproxy.backend_id
        conn.execute("select plain(1)")
        conn.commit()
    assert proxy.stats().resets == 1


@pytest.mark.parametrize("text", ["select sets()", "select calls_sets()", "do 'begin set app.tenant = 7; end'"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_the_policy_reset_takes_named_settings_along(
    open_proxy: Callable[..., Proxy], text: str, autocommit: bool
) -> None:
    """What is known to be set needs no reset; beside a routine that does need one, the session keeps it as well."""
    proxy = open_proxy(routine_policy="reset")
    with proxy.connect(autocommit=autocommit) as conn:
        conn.execute(text)
        conn.commit()
        assert_taken_along(proxy, conn)
        assert proxy.stats().resets == 0
        conn.execute("reset app.tenant")
        conn.execute("select sets(), locks()")
        conn.commit()
        assert proxy.stats().resets == 1
        assert_taken_along(proxy, conn)
    assert found(proxy) == NOTHING


def test_the_policy_reset_after_an_error(open_proxy: Callable[..., Proxy]) -> None:
    """A routine that fails may have left a lock: it is reset too."""
    proxy = open_proxy(max_connections=1, routine_policy="reset")
    with proxy.connect(autocommit=True) as conn:
        with pytest.raises(psycopg.Error):
            conn.execute("do 'begin perform pg_advisory_lock(77); perform 1 / 0; end'")
        assert not conn.rdsproxy.pinned
    assert proxy.stats().resets == 1


def test_the_policy_trust_asks_nothing(open_proxy: Callable[..., Proxy], questions: list[set[str]]) -> None:
    """Routines are harmless because the application says so; what else pins still does."""
    proxy = open_proxy(routine_policy="trust")
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select sets()")
        conn.execute("do 'begin execute ''select 1''; end'")
        assert not conn.rdsproxy.pinned
        conn.execute("select sets(), pg_advisory_lock(1)")
        assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["ADVISORY_LOCK"]
    assert questions == []


def test_each_proxy_has_its_own_catalogue(open_proxy: Callable[..., Proxy]) -> None:
    """What one trusts, another does not."""
    one, two = open_proxy(trusted_routines=("sets",)), open_proxy()
    assert one.catalogue is one.catalogue
    assert one.catalogue is not two.catalogue
