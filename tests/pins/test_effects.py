"""What a pin does: to the log, the counters, the pool, the session itself and the ones that come after it."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import errors as e
from psycopg.pq import TransactionStatus

import rdsproxy_lib
from rdsproxy_lib import Proxy
from rdsproxy_lib.sql import Reason
from tests.pins.audit import found_on
from tests.rival import displacing
from tests.servers import APP_USER, SUPERUSER, PostgresServer

SECRET = "fk7Qz2Lw9x"


@pytest.fixture
def open_proxy(app_server: PostgresServer) -> Iterator[Callable[..., Proxy]]:
    """Makes proxies on an empty database and closes them at the end of the test."""
    opened: list[Proxy] = []

    def make(max_connections: int = 1, *, user: str = APP_USER, **options: Any) -> Proxy:
        url = app_server.url(user=user)
        opened.append(Proxy(url, max_connections=max_connections, connection_borrow_timeout=5, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def names(conn: Any) -> list[str]:
    """The reasons of a session's pins."""
    return [reason.name for reason in conn.rdsproxy.pin_reasons]


def pid_and_remains(proxy: Proxy) -> tuple[int, set[str]]:
    """Which backend the next session gets, and what it finds there."""
    with proxy.connect(autocommit=True) as conn:
        return found_on(conn, APP_USER)


# The log and the counters ---------------------------------------------------------------------------------------


def pin_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("session pinned")]


def test_each_pin_is_one_line_with_its_reason_and_the_statement(
    open_proxy: Callable[..., Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    """The first statement of a reason is logged, with database connection, reason, cause, digest and place; later ones
    are not, and settings never; the end is one line."""
    caplog.set_level(logging.DEBUG)
    with open_proxy().connect(autocommit=True) as conn:
        conn.execute("select 1")
        conn.execute("set work_mem = '6MB'")
        assert pin_lines(caplog) == []
        conn.execute("SELECT  pg_advisory_lock( /* why */ 5)")
        conn.execute("select pg_advisory_lock(6)")
        conn.execute("create temp table t (a int); listen news")
        sites = [pin.call_site for pin in conn.rdsproxy.pins]
    pid = conn.rdsproxy.backend_id
    assert pin_lines(caplog) == [
        f"session pinned to database connection {pid}. Reason: ADVISORY_LOCK (pg_advisory_lock())"
        f' Digest: "SELECT pg_advisory_lock( ?)" At: {sites[0]}',
        f"session pinned to database connection {pid}. Reason: TEMP_TABLE (CREATE TEMP TABLE)"
        f' Digest: "create temp table t (a int); listen news" At: {sites[1]}',
        f"session pinned to database connection {pid}. Reason: LISTEN (LISTEN)"
        f' Digest: "create temp table t (a int); listen news" At: {sites[2]}',
    ]
    place = re.escape(__file__) + r":\d+ in test_each_pin_is_one_line_with_its_reason_and_the_statement"
    assert all(re.fullmatch(place, site) for site in sites)
    assert sites[0] != sites[1] == sites[2]
    assert [message for message in caplog.messages if message.startswith("session unpinned")] == [
        message
        for message in caplog.messages
        if re.fullmatch(rf"session unpinned from database connection {pid} after \d\.\d+ s", message)
    ]
    assert caplog.messages[-1].startswith("session unpinned")
    assert all(record.levelno == logging.INFO for record in caplog.records if "pinned" in record.getMessage())


@pytest.mark.parametrize(
    "text",
    [
        f"set app.tenant = '{SECRET}'",
        f"set app.tenant = $${SECRET}$$",
        f"set app.tenant = $a${SECRET}",
        f"set app.tenant = E'\\'{SECRET}'",
        f"set app.tenant = U&'{SECRET}'",
        f"select set_config('app.tenant', '{SECRET}', false) -- {SECRET}",
        f"/* {SECRET} */ listen news",
        f"prepare p as select '{SECRET}', 'a' '{SECRET}', n'{SECRET}'",
        f"prepare p as select $${SECRET}$$, E'\\'{SECRET}', U&'{SECRET}'",
        f"prepare p as select $a${SECRET}",
        f"do $$ begin set app.tenant = '{SECRET}'; end $$",
        f"do $$ begin execute $x$set app.tenant = '{SECRET}'$x$; end $$",
        f"do $body$ begin perform '{SECRET}'; end $body$",
        f"do ' begin perform ''{SECRET}''; end '",
        f"listen news; select '{SECRET}",
        f"create temp table t (a text default '{SECRET}'); create role x password '{SECRET}'",
        f"{SECRET}",
        f"'{SECRET}' is no statement",
        f"select unknown_function('{SECRET}')",
    ],
    ids=range(19),
)
def test_literals_stay_out_of_log_and_pins(
    open_proxy: Callable[..., Proxy], caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """What stands in quotes or comments of a text that pins or sets something is nowhere in the log, the pins, the
    counters, the events or their repr."""
    caplog.set_level(logging.DEBUG)
    proxy = open_proxy()
    events: list[Any] = []
    proxy.add_event_handler(events.append)
    with proxy.connect(autocommit=True) as conn:
        with suppress(psycopg.Error):
            conn.execute(text)
        client = conn.rdsproxy
        told = "\n".join(map(repr, (client.pins, client, client.wanted, proxy, proxy.stats(), events)))
    assert pid_and_remains(proxy)[1] == set()  # after a reset, or settings put back
    if not text.startswith(SECRET):  # a word that begins a statement is not a literal
        assert SECRET not in told
        assert SECRET not in caplog.text


def test_parameters_stay_out_of_log_and_pins(
    open_proxy: Callable[..., Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    """No cursor class puts a parameter into the log, the pins, the counters, or the repr of what was set."""
    caplog.set_level(logging.DEBUG)
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select set_config('app.tenant', %s, false)", [SECRET])
        conn.execute("select set_config(%s, %s, false)", ["app.other", SECRET])
        assert not conn.rdsproxy.pinned
        assert sorted(conn.rdsproxy.wanted.values) == ["app.other", "app.tenant"]
        assert SECRET not in repr(conn.rdsproxy.wanted)
        with proxy.connect(autocommit=True) as other:
            assert other.execute("select nullif(current_setting('app.tenant', true), '')").fetchone() == (None,)
        conn.execute("select set_config('app.tenant', %(value)s, false)", {"value": SECRET}, prepare=True)
        psycopg.ClientCursor(conn).execute("select set_config('app.tenant', %s, false), pg_advisory_lock(1)", [SECRET])
        psycopg.RawCursor(conn).execute("select set_config('app.tenant', $1, false), setseed(0.5)", [SECRET])
        conn.cursor().executemany("select set_config('app.tenant', %s, false) as x", [[SECRET], [SECRET]])
        query = psycopg.sql.SQL("select set_config('app.tenant', {}, false) as y").format(SECRET)
        conn.execute(query)
        conn.execute(psycopg.sql.SQL("do {}").format("begin perform '" + SECRET + "'; end"))
        with pytest.raises(psycopg.Error):
            conn.execute("select pg_advisory_lock(%s::int)", [SECRET])
        assert names(conn) == ["ADVISORY_LOCK", "UNRESETTABLE", "UNKNOWN_ROUTINE"]
        assert SECRET not in repr(conn.rdsproxy.pins)
        assert SECRET not in repr(proxy.stats())
    assert len(pin_lines(caplog)) == 3
    assert SECRET not in caplog.text


def test_pins_are_counted_by_reason(open_proxy: Callable[..., Proxy]) -> None:
    """`stats().pins` counts each reason once per session, and the pinned database connections are those of now."""
    proxy = open_proxy(2)
    for _ in range(3):
        with proxy.connect(autocommit=True) as conn:
            conn.execute("set work_mem = '5MB'")
            assert proxy.stats().database_connections_currently_session_pinned == 0
            conn.execute("create temp table t (a int)")
            conn.execute("create temp table u (a int)")
            conn.execute("select pg_advisory_lock(1)")
            stats = proxy.stats()
            assert stats.database_connections_currently_session_pinned == 1
            assert [(each.reason, each.statement, each.backend_id) for each in stats.pinned_sessions] == [
                ("TEMP_TABLE", "create temp table t (a int)", conn.rdsproxy.backend_id),
                ("ADVISORY_LOCK", "select pg_advisory_lock(?)", conn.rdsproxy.backend_id),
            ]
        assert proxy.stats().database_connections_currently_session_pinned == 0
        assert proxy.stats().pinned_sessions == ()
    assert dict(proxy.stats().pins) == {"TEMP_TABLE": 3, "ADVISORY_LOCK": 3}
    assert proxy.stats().resets == 3


# Statements that fail -------------------------------------------------------------------------------------------

FAILED: list[tuple[str, str, list[str]]] = [
    ("set work_mem = 'much'", "22023", []),
    ("set nothing_like_it = 1", "42704", []),
    ("set role nobody_of_that_name", "22023", []),
    ("create temp table t (a nothing)", "42704", []),
    ("prepare p as select nothing", "42703", []),
    ("declare c cursor with hold for select 1 / 0", "22012", []),
    ("load 'nothing_like_it'", "42501", ["UNRESETTABLE"]),
    ("select set_config('work_mem', 'much', false)", "22023", []),
    # a lock taken by a statement that fails stays, and who knows what a routine has done
    ("select pg_advisory_lock(1), 1 / (random() * 0)::int", "22012", ["ADVISORY_LOCK"]),
    ("select pg_try_advisory_lock(1) from nothing", "42P01", []),
    ("do $$ begin execute 'select 1 / 0'; end $$", "22012", ["UNKNOWN_ROUTINE"]),
    ("do $$ begin execute 'set app.tenant = 7'; perform nothing; end $$", "42703", ["UNKNOWN_ROUTINE"]),
    ("select fails_dynamically()", "22012", ["UNKNOWN_ROUTINE"]),
    # their bodies show that they leave nothing, or nothing but settings, which the error undoes
    ("do $$ begin set app.tenant = '7'; perform nothing; end $$", "42703", []),
    ("do $$ begin perform set_config('app.tenant', '7', false); perform 1 / 0; end $$", "22012", []),
    ("do $$ begin perform 1 / 0; end $$", "22012", []),
    ("do $$ begin perform nothing; end $$", "42703", []),
    ("select fails()", "22012", []),
    ("call nothing()", "42883", []),
    ("select setseed(2)", "22023", ["UNRESETTABLE"]),
    # nothing of these has run
    ("select no_such_function()", "42883", []),
    ("select no_such_schema.function(1)", "3F000", []),
    ("select fails(1, 2, 3)", "42883", []),
    ("select fails() from", "42601", []),
    ("frobnicate", "42601", []),
    ("select pg_advisory_lock(1) where", "42601", []),
    ("select setseed(0.5", "42601", []),
]


@pytest.mark.parametrize(("text", "sqlstate", "kept"), FAILED, ids=[text[:40] for text, _, _ in FAILED])
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_a_statement_that_fails_pins_only_what_an_error_does_not_undo(
    open_proxy: Callable[..., Proxy], text: str, sqlstate: str, kept: list[str], autocommit: bool
) -> None:
    """Locks, seeds and routines outlive an error; settings, tables and what never ran do not, and do not pin."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("create function fails() returns int language plpgsql as 'begin return 1 / 0; end'")
        conn.execute(
            "create function fails_dynamically() returns int language plpgsql as"
            " $$ begin execute 'select 1 / 0'; return 1; end $$"
        )
    with proxy.connect(autocommit=autocommit) as conn:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(text)
        assert caught.value.sqlstate == sqlstate
        assert names(conn) == kept
        if not autocommit:
            assert conn.info.transaction_status == TransactionStatus.INERROR
            conn.rollback()
        assert names(conn) == kept
        held = 1 if kept else 0
        assert proxy.stats().database_connections_currently_borrowed == held
        assert proxy.stats().database_connections_currently_session_pinned == held
        assert conn.execute("select nullif(current_setting('app.tenant', true), '')").fetchone() == (None,)
        conn.rollback()
        assert set(conn.rdsproxy.wanted.values.values()) <= {""}  # that there was a tenant once, the server remembers
    assert pid_and_remains(proxy)[1] == set()


def test_an_error_takes_back_only_the_pins_of_its_own_statement(open_proxy: Callable[..., Proxy]) -> None:
    """A session that was pinned before stays pinned for what it was pinned for."""
    with open_proxy().connect(autocommit=True) as conn:
        conn.execute("create temp table t (a int)")
        with pytest.raises(e.InvalidParameterValue):
            conn.execute("set work_mem = 'much'")
        assert names(conn) == ["TEMP_TABLE"]
        with pytest.raises(e.DuplicateTable):
            conn.execute("create temp table t (a int)")
        assert names(conn) == ["TEMP_TABLE"]


def test_several_statements_in_one_text_keep_their_pins_when_one_fails(open_proxy: Callable[..., Proxy]) -> None:
    """Which of them ran cannot be told from the error."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        with pytest.raises(e.DivisionByZero):
            conn.execute("prepare p as select 1; commit; select 1 / 0")
        assert names(conn) == ["PREPARED_STATEMENT"]
        assert conn.execute("execute p").fetchone() == (1,)
    assert pid_and_remains(proxy)[1] == set()


ROLLED_BACK = [
    # the server undoes these
    ("create temp table t (a int)", "TEMP_TABLE", False),
    ("listen news", "LISTEN", False),
    ("declare c cursor with hold for select 1", "HOLD_CURSOR", False),
    # and these it does not, or nobody can ask
    ("select pg_advisory_lock(1)", "ADVISORY_LOCK", True),
    ("prepare p as select 1", "PREPARED_STATEMENT", True),
    ("do $$ begin execute 'select 1'; end $$", "UNKNOWN_ROUTINE", True),
    ("update pg_settings set setting = '5000' where name = 'work_mem'", "SETTING", True),
]


@pytest.mark.parametrize(("text", "reason", "stays"), ROLLED_BACK, ids=[reason for _, reason, _ in ROLLED_BACK])
@pytest.mark.parametrize("ending", ["rollback", "savepoint", "error"])
def test_a_rollback_ends_the_pins_of_what_it_undid(
    open_proxy: Callable[..., Proxy], text: str, reason: str, stays: bool, ending: str
) -> None:
    """The server is asked when the transaction is over: what it took back pins no more, a lock still does."""
    proxy = open_proxy()
    with proxy.connect() as conn:
        conn.execute("savepoint a")
        conn.execute(text)
        assert names(conn) == [reason]
        if ending == "error":
            with pytest.raises(e.DivisionByZero):
                conn.execute("select 1 / 0")
        if ending == "savepoint":
            conn.execute("rollback to a")
            assert names(conn) == [reason]
            conn.commit()
        else:
            conn.rollback()
        assert names(conn) == [reason] * stays
        assert proxy.stats().database_connections_currently_borrowed == stays
        if not stays:
            assert pid_and_remains(proxy) == (conn.rdsproxy.backend_id, set())
    assert pid_and_remains(proxy) == (conn.rdsproxy.backend_id, set())


def test_a_setting_that_was_rolled_back_is_not_the_sessions(open_proxy: Callable[..., Proxy]) -> None:
    """The session goes on with the values it had before the transaction, on this backend and on another one."""
    proxy = open_proxy(2)
    with proxy.connect() as conn:
        conn.execute("set work_mem = '5MB'")
        conn.commit()
        conn.execute("set work_mem = '6MB'; set app.tenant = '7'")
        assert conn.execute("show work_mem").fetchone() == ("6MB",)
        conn.rollback()
        assert found_on(conn, APP_USER) == (conn.rdsproxy.backend_id, {"setting: work_mem=5120"})
        conn.rollback()
        pid = conn.rdsproxy.backend_id
        with displacing(proxy, conn) as other:
            assert found_on(other, APP_USER) == (pid, set())
            assert found_on(conn, APP_USER) == (conn.rdsproxy.backend_id, {"setting: work_mem=5120"})
            assert conn.rdsproxy.backend_id != pid
    assert dict(proxy.stats().pins) == {}


# max_pinned_percent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_a_pin_beyond_the_share_is_refused_before_anything_runs(
    open_proxy: Callable[..., Proxy], autocommit: bool
) -> None:
    """PinRefused leaves the table empty, the session usable and the pool as it was. Settings are never refused."""
    proxy = open_proxy(2, max_pinned_percent=50)
    with proxy.connect(autocommit=True) as first, proxy.connect(autocommit=autocommit) as second:
        first.execute("create table noted (a int)")
        first.execute("create temp table t (a int)")
        second.execute("set work_mem = '5MB'")
        second.commit()
        before = proxy.stats()
        for text in (
            "insert into noted values (1); create temp table t (a int)",
            "set work_mem = '6MB'; listen news",
            "set local work_mem = '6MB'; prepare p as insert into noted values (1)",
            "with w as (insert into noted values (2) returning 1) select pg_advisory_lock(1) from w",
            "do $$ begin insert into noted values (3); execute 'select 1'; end $$",
        ):
            with pytest.raises(rdsproxy_lib.PinRefused, match="Nothing was sent") as caught:
                second.execute(text)
            assert isinstance(caught.value, psycopg.OperationalError)
            assert caught.value.retry_safe
            assert second.info.transaction_status == TransactionStatus.IDLE
        with pytest.raises(rdsproxy_lib.PinRefused):
            second.rdsproxy.pin("by hand")
        assert not second.rdsproxy.pinned
        after = proxy.stats()
        for field in ("database_connections", "database_connections_currently_idle", "pins"):
            assert getattr(after, field) == getattr(before, field)
        assert after.database_connections_currently_borrowed == 1
        assert after.database_connections_currently_session_pinned == 1
        assert second.execute("select count(*), current_setting('work_mem') from noted").fetchone() == (0, "5MB")
        second.rollback()
        first.close()
        second.execute("create temp table t (a int)")
        assert names(second) == ["TEMP_TABLE"]


def test_a_pin_refused_in_a_transaction_leaves_it_open(open_proxy: Callable[..., Proxy]) -> None:
    """The transaction has not failed: what was done in it can still be committed."""
    proxy = open_proxy(2, max_pinned_percent=0)
    with proxy.connect(autocommit=True) as first, proxy.connect() as second:
        first.execute("create table noted (a int)")
        first.execute("listen news")  # one may always pin
        second.execute("insert into noted values (1)")
        with pytest.raises(rdsproxy_lib.PinRefused):
            second.execute("listen news")
        assert second.info.transaction_status == TransactionStatus.INTRANS
        second.commit()
        assert first.execute("select count(*) from noted").fetchone() == (1,)


# After the session -----------------------------------------------------------------------------------------------

STATES = {
    "temporary objects": "create temp table t (a int); create temp sequence s; create function pg_temp.f() returns int"
    " language sql as 'select 1'",
    "locks": "select pg_advisory_lock(1), pg_advisory_lock(1), pg_advisory_lock_shared(2, 3)",
    "channels": 'listen one; listen "Two"',
    "prepared statements": 'prepare p as select 1; prepare "P q" (int) as select $1',
    "cursors": "declare c cursor with hold for select 1",
    "a routine": "do $$ begin set app.tenant = '7'; perform pg_advisory_lock(1); create temp table t (a int); end $$",
    "a routine that says nothing": "do $$ begin execute 'set role helper'; end $$",
    "settings while pinned": "listen one; set work_mem = '5MB'; set role helper",
}
TAKEN_ALONG = {
    "settings": "set work_mem = '5MB'; set app.tenant = '7'; set timezone to 'Asia/Tokyo'",
    "a path": "set search_path to nowhere, pg_catalog",
    "an encoding": "set names 'LATIN1'",
    "role": "set role helper",
    "settings and role": "set app.tenant = '7'; set role helper; set statement_timeout = 60000",
    "characteristics": "set session characteristics as transaction read only",
    "set_config()": "select set_config('app.tenant', '7', false), set_config('work_mem', '5MB', false)",
    "a routine": "do $$ begin set app.tenant = '7'; perform set_config('work_mem', '5MB', false); end $$",
}


@pytest.fixture
def helper(app_server: PostgresServer) -> None:
    """A role that the user may become."""
    with app_server.admin() as admin:
        admin.execute("do $$ begin create role helper; exception when duplicate_object then null; end $$")
        admin.execute(f"grant helper to {APP_USER}")


@pytest.mark.usefixtures("helper")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("ending", ["close", "in a transaction", "in a failed one"])
def test_the_next_session_on_the_backend_finds_nothing(
    open_proxy: Callable[..., Proxy], state: str, ending: str
) -> None:
    """A backend that was pinned is reset before it is lent again, however its session ended."""
    proxy = open_proxy()
    conn = proxy.connect(autocommit=True)
    conn.execute(STATES[state])
    assert conn.rdsproxy.pinned
    assert found_on(conn, APP_USER)[1]
    end(conn, ending)
    assert pid_and_remains(proxy) == (conn.rdsproxy.backend_id, set())
    assert proxy.stats().resets == 1


def end(conn: Any, ending: str) -> None:
    """Close it: as it is, or in the middle of a transaction."""
    if ending != "close":
        conn.execute("begin")
        if ending == "in a failed one":
            with pytest.raises(e.DivisionByZero):
                conn.execute("select 1 / 0")
    conn.close()


@pytest.mark.usefixtures("helper")
@pytest.mark.parametrize("state", TAKEN_ALONG)
@pytest.mark.parametrize("ending", ["close", "in a transaction", "in a failed one"])
def test_settings_go_with_their_session_and_nobody_else_has_them(
    open_proxy: Callable[..., Proxy], app_server: PostgresServer, state: str, ending: str
) -> None:
    """What a private connection would have is found on each backend that the session gets, and by no other session;
    nothing is pinned, and nothing reset."""
    with psycopg.connect(app_server.dsn(), autocommit=True) as private:
        private.execute(TAKEN_ALONG[state])
        expected = found_on(private, APP_USER)[1]
    assert expected
    proxy = open_proxy(2)
    conn = proxy.connect(autocommit=True)
    conn.execute(TAKEN_ALONG[state])
    closed = proxy.stats().database_connections_closed
    for _ in range(3):
        pid = conn.rdsproxy.backend_id
        assert not conn.rdsproxy.pinned
        assert found_on(conn, APP_USER) == (pid, expected)
        with displacing(proxy, conn) as other:
            assert found_on(other, APP_USER) == (pid, set())
            assert found_on(conn, APP_USER)[1] == expected
            assert conn.rdsproxy.backend_id != pid
    end(conn, ending)
    with proxy.connect() as one, proxy.connect() as two:
        found = [found_on(each, APP_USER) for each in (one, two)]
    assert [left for _, left in found] == [set(), set()]
    assert len({pid for pid, _ in found}) == 2
    stats = proxy.stats()
    assert dict(stats.pins) == {}
    assert (stats.resets, stats.reset_failures, stats.database_connections_closed) == (0, 0, closed)
    assert stats.relabels > 3


def test_settings_outlive_pins_and_pins_do_not_outlive_their_cause(open_proxy: Callable[..., Proxy]) -> None:
    """What is set while pinned stays the session's when the pin has ended and the backend was reset."""
    proxy = open_proxy(2)
    with proxy.connect(autocommit=True) as conn:
        conn.execute("set work_mem = '5MB'")
        conn.execute("create temp table t (a int)")
        conn.execute("set app.tenant = '7'; set work_mem = '6MB'")
        assert names(conn) == ["TEMP_TABLE"]
        conn.execute("drop table t")
        assert not conn.rdsproxy.pinned
        expected = {"setting: work_mem=6144", "custom setting: app.tenant=7"}
        for _ in range(2):
            with displacing(proxy, conn) as other:
                assert found_on(other, APP_USER)[1] == set()
                assert found_on(conn, APP_USER)[1] == expected
    assert pid_and_remains(proxy)[1] == set()
    assert dict(proxy.stats().pins) == {"TEMP_TABLE": 1}


@pytest.mark.parametrize("also", ["listen news", "reset work_mem", "set application_name = 'it'", "select 1"])
def test_the_init_query_runs_again_after_a_reset(open_proxy: Callable[..., Proxy], also: str) -> None:
    """What every session is promised by `init_query` holds behind one that was pinned, or has set something else."""
    proxy = open_proxy(init_query="set work_mem = '7MB'")
    with proxy.connect(autocommit=True) as conn:
        conn.execute("set work_mem = '5MB'")
        conn.execute(also)
        assert conn.rdsproxy.pinned == (also == "listen news")
        expected = {"reset work_mem": "4MB"}.get(also, "5MB")
        assert conn.execute("show work_mem").fetchone() == (expected,)
        if not conn.rdsproxy.pinned:
            with proxy.connect(autocommit=True) as other:
                assert other.execute("show work_mem").fetchone() == ("7MB",)
            assert conn.execute("show work_mem").fetchone() == (expected,)
    with proxy.connect(autocommit=True) as following:
        assert following.execute("show work_mem").fetchone() == ("7MB",)
        assert following.execute("show application_name").fetchone() == ("",)
        assert not following.rdsproxy.pinned
    assert following.rdsproxy.backend_id == conn.rdsproxy.backend_id


@pytest.mark.parametrize(("text", "resets"), [("listen news", 3), ("set work_mem = '5MB'", 0)])
def test_the_drivers_prepared_statements_work_across_a_reset(
    open_proxy: Callable[..., Proxy], text: str, resets: int
) -> None:
    """What forgets them on the server, a reset or other settings, empties the driver's list of them, too."""
    proxy = open_proxy()
    for _ in range(3):
        with proxy.connect(autocommit=True) as conn:
            assert conn.execute("select %s::int + 1", [1], prepare=True).fetchone() == (2,)
            conn.execute(text)
            assert conn.execute("select %s::int + 1", [2], prepare=True).fetchone() == (3,)
    assert proxy.stats().database_connections_setup_succeeded <= 2
    assert proxy.stats().resets == resets


def test_notifications_of_a_session_that_ended_reach_nobody(
    open_proxy: Callable[..., Proxy], app_server: PostgresServer
) -> None:
    """The next session on the backend does not hear what the one before it listened for."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("listen news")
        with psycopg.connect(app_server.dsn(), autocommit=True) as other:
            other.execute("notify news, 'unheard'")
    with proxy.connect(autocommit=True) as following:
        following.execute("listen other")
        assert [*following.notifies(timeout=0.05)] == []
    assert following.rdsproxy.backend_id == conn.rdsproxy.backend_id


@pytest.mark.parametrize(
    "text",
    ["select setseed(0.5)", "load 'auto_explain'", "select pg_create_physical_replication_slot('s', true, true)"],
)
def test_a_backend_that_cannot_be_reset_is_closed(open_proxy: Callable[..., Proxy], text: str) -> None:
    """UNRESETTABLE state goes with its database connection; the next session gets a new one."""
    proxy = open_proxy(user=SUPERUSER)
    with proxy.connect(autocommit=True) as conn:
        conn.execute(text)
        assert names(conn) == ["UNRESETTABLE"]
        assert found_on(conn, SUPERUSER)[1]
    assert proxy.stats().database_connections == 0
    with proxy.connect(autocommit=True) as following:
        pid, left = found_on(following, SUPERUSER)
    assert pid != conn.rdsproxy.backend_id
    assert left == set()
    assert proxy.stats().resets == 0


# pin() and unpin() -----------------------------------------------------------------------------------------------


def test_pin_keeps_a_backend_until_unpin(open_proxy: Callable[..., Proxy]) -> None:
    """Between the two the session has one database connection to itself; what it left there is reset then."""
    proxy = open_proxy(2)
    with proxy.connect(autocommit=True) as conn:
        conn.rdsproxy.pin("triggers of ours set something")
        assert names(conn) == ["MANUAL"]
        assert [pin.what for pin in conn.rdsproxy.pins] == ["triggers of ours set something"]
        held = conn.rdsproxy.backend_id
        with proxy.connect(autocommit=True) as other:
            other.execute("select 1")
            assert other.rdsproxy.backend_id != held
        conn.execute("select 1")
        assert conn.rdsproxy.backend_id == held
        conn.rdsproxy.unpin()
        assert not conn.rdsproxy.pinned
        assert names(conn) == []
        assert proxy.stats().database_connections_currently_borrowed == 0
        assert proxy.stats().resets == 1
        conn.rdsproxy.unpin()  # nothing to end


def test_unpin_ends_only_what_stands_for_not_knowing(open_proxy: Callable[..., Proxy]) -> None:
    """State that was seen keeps its pin; what a routine left is reset when the last pin has gone."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        conn.execute("do $$ begin execute 'set app.tenant = 7'; end $$")
        conn.rdsproxy.pin()
        assert names(conn) == ["UNKNOWN_ROUTINE", "MANUAL"]
        assert conn.execute("select current_setting('app.tenant', true)").fetchone() == ("7",)
        conn.rdsproxy.unpin()
        assert not conn.rdsproxy.pinned
        assert conn.execute("select current_setting('app.tenant', true)").fetchone() in [(None,), ("",)]
        conn.execute("do $$ begin execute 'select 1'; end $$")
        conn.execute("create temp table t (a int)")
        conn.rdsproxy.unpin()
        assert names(conn) == ["TEMP_TABLE"]
        assert conn.execute("select count(*) from t").fetchone() == (0,)


def test_unpin_in_a_transaction_waits_for_its_end(open_proxy: Callable[..., Proxy]) -> None:
    """The database connection is given back, and reset, when the transaction is over."""
    proxy = open_proxy()
    with proxy.connect() as conn:
        conn.execute("do $$ begin execute 'set app.tenant = 7'; end $$")
        assert names(conn) == ["UNKNOWN_ROUTINE"]
        conn.rdsproxy.unpin()
        assert not conn.rdsproxy.pinned
        assert conn.execute("select current_setting('app.tenant')").fetchone() == ("7",)
        assert proxy.stats().database_connections_currently_borrowed == 1
        conn.commit()
        assert proxy.stats().database_connections_currently_borrowed == 0
    assert pid_and_remains(proxy) == (conn.rdsproxy.backend_id, set())


def test_a_session_can_pin_again_after_unpin(
    open_proxy: Callable[..., Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    """Each time is a pin of its own, in the log and in the counters."""
    caplog.set_level(logging.INFO)
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as conn:
        for _ in range(2):
            conn.execute("do $$ begin execute 'select 1'; end $$")
            assert names(conn) == ["UNKNOWN_ROUTINE"]
            conn.rdsproxy.unpin()
    assert dict(proxy.stats().pins) == {"UNKNOWN_ROUTINE": 2}
    assert len(pin_lines(caplog)) == 2


def test_pins_belong_to_their_session(open_proxy: Callable[..., Proxy]) -> None:
    """Neither another session nor a later one on the same database connection shows pins that are not its own."""
    proxy = open_proxy(2)
    with proxy.connect(autocommit=True) as conn, proxy.connect(autocommit=True) as other:
        conn.execute("create temp table t (a int)")
        other.execute("set work_mem = '5MB'")
        assert (names(conn), names(other)) == (["TEMP_TABLE"], [])
        other.execute("listen news")
        assert (names(conn), names(other)) == (["TEMP_TABLE"], ["LISTEN"])
        assert conn.rdsproxy.backend_id != other.rdsproxy.backend_id
    for _ in range(3):
        with proxy.connect(autocommit=True) as following:
            following.execute("select 1")
            assert names(following) == []
            assert following.rdsproxy.pins == ()


def test_the_reasons_keep_the_order_in_which_they_came(open_proxy: Callable[..., Proxy]) -> None:
    """`pin_reasons` reads like the history of the session."""
    with open_proxy().connect(autocommit=True) as conn:
        conn.execute("listen news; prepare p as select 1")
        conn.execute("create temp table t (a int)")
        conn.execute("prepare q as select 1")
        assert conn.rdsproxy.pin_reasons == (Reason.LISTEN, Reason.PREPARED_STATEMENT, Reason.TEMP_TABLE)
        since = [pin.since for pin in conn.rdsproxy.pins]
        assert since == sorted(since)


# Sequences -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sequences(app_server: PostgresServer) -> None:
    """A sequence, a table that draws from it, and one that does not."""
    with psycopg.connect(app_server.dsn(), autocommit=True) as conn:
        conn.execute("create sequence s; create table noted (id int default nextval('s')); create table other (a int)")


def value(conn: Any, text: str) -> int:
    return int(conn.execute(text).fetchone()[0])


@pytest.mark.usefixtures("sequences")
def test_currval_is_never_another_sessions_value(open_proxy: Callable[..., Proxy]) -> None:
    """On one backend that both moved a sequence on, the question is refused instead of answered wrongly."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as one, proxy.connect(autocommit=True) as two:
        value(one, "select nextval('s')")
        value(two, "select nextval('s')")
        for question in ("select currval('s')", "select lastval()"):
            with pytest.raises(rdsproxy_lib.DiagnosticsLost) as caught:
                value(one, question)
            assert isinstance(caught.value, e.ObjectNotInPrerequisiteState)
        assert one.rdsproxy.backend_id == two.rdsproxy.backend_id
        assert not one.rdsproxy.pinned


@pytest.mark.usefixtures("sequences")
def test_currval_of_a_session_that_never_moved_one_is_the_servers_error(open_proxy: Callable[..., Proxy]) -> None:
    """As on a private connection: not defined in this session, whatever others did on the backend."""
    proxy = open_proxy()
    with proxy.connect(autocommit=True) as one, proxy.connect(autocommit=True) as two:
        with pytest.raises(e.ObjectNotInPrerequisiteState):
            value(two, "select currval('s')")
        value(one, "select nextval('s')")
        with pytest.raises(e.ObjectNotInPrerequisiteState):
            value(two, "select currval('s')")


@pytest.mark.usefixtures("sequences")
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_moving_and_asking_in_one_text_always_works(open_proxy: Callable[..., Proxy], autocommit: bool) -> None:
    """The answer is that of this very statement, also the first time and behind other sessions."""
    proxy = open_proxy()
    with proxy.connect(autocommit=autocommit) as one, proxy.connect(autocommit=autocommit) as two:
        for conn in (one, two, one, two):
            row = conn.execute("select nextval('s'), currval('s'), lastval()").fetchone()
            assert row is not None
            assert len(set(row)) == 1
            conn.commit()
            cursor = conn.execute("select nextval('s'); select currval('s')")
            first = cursor.fetchone()
            assert cursor.nextset()
            assert cursor.fetchone() == first
            conn.commit()


@pytest.mark.usefixtures("sequences")
def test_insert_then_currval_in_a_transaction_works_from_the_second_time_on(
    open_proxy: Callable[..., Proxy],
) -> None:
    """The first question may be refused; from then on the sessions of that login are kept apart."""
    proxy = open_proxy()
    with proxy.connect() as one, proxy.connect() as two:
        for conn in (one, two):
            conn.execute("insert into noted default values")
            conn.commit()
        refused = 0
        for conn in (one, two) * 3:
            try:
                drawn = value(conn, "insert into noted default values returning id")
                assert value(conn, "select currval('s')") == drawn
                assert value(conn, "select lastval()") == drawn
            except rdsproxy_lib.DiagnosticsLost:
                refused += 1
                assert conn is one
            finally:
                conn.rollback()
        assert refused <= 1


@pytest.mark.usefixtures("sequences")
def test_own_values_stay_while_others_only_read(open_proxy: Callable[..., Proxy]) -> None:
    """Sessions that move no sequence take nothing away, on one backend as on two."""
    for max_connections in (1, 2):
        proxy = open_proxy(max_connections)
        with proxy.connect(autocommit=True) as one, proxy.connect(autocommit=True) as two:
            drawn = value(one, "select nextval('s')")
            for _ in range(3):
                value(two, "select count(*) from noted")
                assert value(one, "select currval('s')") == drawn
                assert value(one, "select lastval()") == drawn


@pytest.mark.usefixtures("sequences")
def test_values_left_on_a_backend_in_use_elsewhere_are_not_guessed(open_proxy: Callable[..., Proxy]) -> None:
    """While another session holds the backend that knows them the question is refused; afterwards it is answered."""
    proxy = open_proxy(2)
    with proxy.connect(autocommit=True) as one, proxy.connect() as two:
        drawn = value(one, "select nextval('s')")
        value(two, "select 1")
        with pytest.raises(rdsproxy_lib.DiagnosticsLost):
            value(one, "select currval('s')")
        two.commit()
        assert value(one, "select currval('s')") == drawn


@pytest.mark.usefixtures("sequences")
def test_an_older_value_of_the_session_is_not_told_either(open_proxy: Callable[..., Proxy]) -> None:
    """A backend where the session moved a sequence earlier does not become right because it is used again."""
    proxy = open_proxy(2)
    with proxy.connect(autocommit=True) as one, proxy.connect() as two:
        value(two, "select 1")
        value(one, "select nextval('s')")  # on the other backend
        earlier = one.rdsproxy.backend_id
        two.commit()
        drawn = value(one, "select nextval('s')")
        assert one.rdsproxy.backend_id != earlier
        value(two, "select 1")
        one.execute("insert into other values (1)")  # may have moved a sequence, for all its text tells
        assert one.rdsproxy.backend_id == earlier
        two.commit()
        for question in ("select currval('s')", "select lastval()"):
            with suppress(e.ObjectNotInPrerequisiteState):
                assert value(one, question) == drawn


@pytest.mark.usefixtures("sequences")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_connections", [1, 2])
def test_no_order_of_statements_gives_a_wrong_value(
    open_proxy: Callable[..., Proxy], max_connections: int, seed: int
) -> None:
    """In any mix of sessions an answer is the one of a private connection, or there is none."""
    proxy = open_proxy(max_connections)
    chance = random.Random(seed)
    sessions = [proxy.connect(autocommit=True) for _ in range(3)]
    last: dict[Any, int] = {}
    history = []
    answers = 0
    for _ in range(250):
        conn = chance.choice(sessions)
        action = chance.choice(
            ["nextval", "insert", "unrelated", "read", "currval", "currval", "lastval", "begin", "commit", "rollback"]
        )
        if action == "begin" and sum(each.rdsproxy.in_transaction for each in sessions) + 1 >= max_connections:
            continue  # the others are to have a backend
        history.append((sessions.index(conn), action))
        if action == "nextval":
            last[conn] = value(conn, "select nextval('s')")
        elif action == "insert":
            last[conn] = value(conn, "insert into noted default values returning id")
        elif action == "unrelated":
            conn.execute("insert into other values (1)")
        elif action == "read":
            conn.execute("select count(*) from noted")
        elif action in ("begin", "commit", "rollback"):
            conn.execute(action)
        else:
            try:
                answer = value(conn, "select currval('s')" if action == "currval" else "select lastval()")
            except e.ObjectNotInPrerequisiteState:
                if conn.info.transaction_status is TransactionStatus.INERROR:  # the server said it
                    conn.execute("rollback")
            else:
                answers += 1
                assert answer == last.get(conn), history
    assert answers
    for conn in sessions:
        conn.close()
