# ruff: noqa: PT012  # how a block is left is what is tested
"""A pin ends with its cause: the session is multiplexed again, and the next one finds nothing of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

import rdsproxy_lib
from rdsproxy_lib import SessionPinned, SessionUnpinned

from .conftest import MySQLWorld, PostgresWorld, World, rows, value
from .oracle import DRIVER_ERRORS, Engine, Mine
from .oracle_mysql import MySQLOracle
from .oracle_postgresql import PostgresOracle


@dataclass(frozen=True)
class Story:
    """Statements of one session. `=` in front: it is pinned afterwards; `-`: it is not; `~`: amid a transaction.

    A `!` after that: the statement fails. At the end the session is not pinned.
    """

    text: str
    outside: str = ""
    """What a private connection runs before, and keeps."""
    never_pins: bool = False


POSTGRESQL: dict[str, tuple[Story, ...]] = {
    "TEMP_TABLE": (
        Story("= create temp table t (n int) | - drop table t"),
        Story("= create temp table t (n int) | = create temp table u (n int) | = drop table t | - drop table u"),
        Story("= create temp table t (n int) | = create temp table u (n int) | - drop table t, u"),
        Story("= create temp view v as select 1 | - drop view v"),
        Story("= create temp sequence s | - drop sequence s"),
        Story("= select 1 as n into temp t | - discard temp"),
        Story("= create temp table t (n int) | - discard all"),
        Story("~ begin | ~ create temp table t (n int) | - rollback"),
        Story("~ begin | ~ create temp table t (n int) | ~! select 1 / 0 | - commit"),
        Story("~ begin | ~ savepoint a | ~ create temp table t (n int) | ~ rollback to a | - commit"),
        Story("~ begin | ~ create temp table t (n int) | = commit | - drop table t"),
        Story("= create temp table t (n int) | ~ begin | ~ drop table t | = rollback | - drop table t"),
        Story("= create temp table t (n int) | ~ begin | ~ drop table t | - commit"),
        Story(
            "= create temp table t (n int) | =! drop table nothing | =! create temp table t (n int) | - drop table t"
        ),
        Story("-! create temp table t as select 1 / 0"),
        Story("~ begin | ~ create temp table t (n int) on commit drop | - commit", never_pins=True),
        Story("= create function pg_temp.f() returns int language sql as 'select 1' | - drop function pg_temp.f()"),
        Story("= create temp table t (n int) | = alter table t rename to u | - drop table u"),
        Story("= create temp table t (n int); select 1 | - select 1; drop table t"),
    ),
    "PREPARED_STATEMENT": (
        Story("= prepare p as select 1 | = execute p | - deallocate p"),
        Story("= prepare p as select 1 | = prepare q as select 2 | = deallocate p | - deallocate prepare q"),
        Story("= prepare p as select 1 | - deallocate all"),
        Story("= prepare p as select 1 | - discard all"),
        Story("~ begin | ~ prepare p as select 1 | = rollback | - deallocate p"),
        Story("= prepare p as select 1 | ~ begin | ~ deallocate p | - rollback"),
        Story("-! prepare p as select nonsense"),
        Story("= prepare p as select 1 | =! deallocate nothing | =! prepare p as select 2 | - deallocate p"),
    ),
    "HOLD_CURSOR": (
        Story("= declare c cursor with hold for select 1 | = fetch c | - close c"),
        Story("= declare c cursor with hold for select 1 | - close all"),
        Story(
            "= declare c cursor with hold for select 1 | = declare d cursor with hold for select 1"
            " | = close c | - close d"
        ),
        Story("= declare c cursor with hold for select 1 | - discard all"),
        Story("~ begin | ~ declare c cursor with hold for select 1 | - rollback"),
        Story("~ begin | ~ declare c cursor with hold for select 1 | ~ close c | - commit"),
        Story("~ begin | ~ declare c cursor with hold for select 1 | = commit | - close c"),
        Story("= declare c cursor with hold for select 1 | ~ begin | ~ close c | - commit"),
        Story("-! declare c cursor with hold for select nonsense"),
        Story("~ begin | ~ declare c cursor for select 1 | - commit", never_pins=True),
    ),
    "ADVISORY_LOCK": (
        Story("= select pg_advisory_lock(1) | - select pg_advisory_unlock(1)"),
        Story(
            "= select pg_advisory_lock(1) | = select pg_advisory_lock(1) | = select pg_advisory_unlock(1)"
            " | - select pg_advisory_unlock(1)"
        ),
        Story("= select pg_advisory_lock(1), pg_advisory_lock(1, 2) | - select pg_advisory_unlock_all()"),
        Story(
            "= select pg_advisory_lock_shared(1) | = select pg_advisory_unlock(1)"
            " | - select pg_advisory_unlock_shared(1)"
        ),
        Story("= select pg_try_advisory_lock(1) | - select pg_advisory_unlock(1)"),
        Story("- select pg_try_advisory_lock(7)", outside="select pg_advisory_lock(7)"),
        Story("=! select pg_advisory_lock(1), 1 / (random() * 0)::int | - select pg_advisory_unlock(1)"),
        Story("~ begin | ~ select pg_advisory_lock(1) | = rollback | - select pg_advisory_unlock(1)"),
        Story("= select pg_advisory_lock(1) | ~ begin | ~ select pg_advisory_unlock(1) | - rollback"),
        Story("= select pg_advisory_lock(1) | = select pg_advisory_unlock(2) | - discard all"),
        Story("~ begin | ~ select pg_advisory_lock(1) | ~ select pg_advisory_unlock(1) | - commit"),
        Story("~ begin | ~ select pg_advisory_xact_lock(1) | - commit", never_pins=True),
        Story(
            "= select pg_advisory_lock(1) | ~ begin | ~ select pg_advisory_xact_lock(2)"
            " | ~ select pg_advisory_unlock(1) | - commit"
        ),
        Story(
            "= select pg_advisory_lock(n) from generate_series(1, 5) n"
            " | - select pg_advisory_unlock(n) from generate_series(1, 5) n"
        ),
    ),
    "LISTEN": (
        Story("= listen c | - unlisten c"),
        Story("= listen c | = listen d | = unlisten c | - unlisten d"),
        Story("= listen c | = listen c | - unlisten *"),
        Story("= listen c | - discard all"),
        Story("~ begin | ~ listen c | - rollback"),
        Story("~ begin | ~ listen c | = commit | - unlisten c"),
        Story("= listen c | ~ begin | ~ unlisten c | = rollback | - unlisten c"),
        Story("= listen c | = unlisten nothing | - unlisten c"),
    ),
    "SETTING": (
        Story("= update pg_settings set setting = '5000' where name = 'work_mem' | - reset all"),
        Story("= update pg_settings set setting = '5000' where name = 'work_mem' | - discard all"),
        Story("= set client_encoding = 'GBK' | - set client_encoding = 'UTF8'"),
    ),
}

MYSQL: dict[str, tuple[Story, ...]] = {
    "TEMP_TABLE": (
        Story("= create temporary table t (n int) | - drop temporary table t"),
        Story("= create temporary table t (n int) | - drop table t"),
        Story(
            "= create temporary table t (n int) | = create temporary table u (n int) | = drop table if exists t"
            " | - drop temporary table u"
        ),
        Story(
            "= create temporary table t (n int) | = create temporary table `u` (n int) | - drop temporary table u, `t`"
        ),
        Story("= create temporary table t as select 1 as n | =! drop table nothing | - drop table t"),
        Story("-! create temporary table t (nonsense)"),
        Story("~ begin | ~ create temporary table t (n int) | = rollback | - drop temporary table t"),
        Story("= create temporary table t (n int) | ~ begin | ~ drop temporary table t | - rollback"),
        Story("= create temporary table t (n int) | =! create temporary table t (n int) | - drop table t"),
        Story(
            "= create temporary table if not exists t (n int)"
            " | = create temporary table if not exists t (n int) | - drop table t"
        ),
    ),
    "PREPARED_STATEMENT": (
        Story("= prepare p from 'select 1' | = execute p | - deallocate prepare p"),
        Story("= prepare p from 'select 1' | = prepare q from 'select 2' | = drop prepare p | - deallocate prepare q"),
        Story("= prepare p from 'select 1' | = prepare P from 'select 2' | - deallocate prepare p"),
        Story("-! prepare p from 'nonsense'"),
        Story("= prepare p from 'select 1' | =! deallocate prepare nothing | - deallocate prepare p"),
        Story("~ begin | ~ prepare p from 'select 1' | = rollback | - deallocate prepare p"),
    ),
    "HOLD_CURSOR": (
        Story("= handler items open | = handler items read first | - handler items close"),
        Story("= handler items open as h | = handler items open | = handler h close | - handler items close"),
        Story("-! handler nothing open"),
        Story("= handler items open |=! handler nothing close | - handler items close"),
    ),
    "NAMED_LOCK": (
        Story("= select get_lock('state a', 1) | - select release_lock('state a')"),
        Story(
            "= do get_lock('state a', 1) | = do get_lock('state a', 1) | = do release_lock('state a')"
            " | - do release_lock('state a')"
        ),
        Story("= do get_lock('state a', 1), get_lock('state b', 1) | - do release_all_locks()"),
        Story(
            "= do get_lock('state a', 1) | = do get_lock('state b', 1) | = do release_lock('state a')"
            " | - do release_lock('state b')"
        ),
        Story("- select get_lock('state c', 0)", outside="select get_lock('state c', 0)"),
        Story("= do get_lock('state a', 1) | = select release_lock('nothing') | - do release_lock('state a')"),
        Story("~! select get_lock('state a', 1), (select id from items) | - do release_all_locks()"),
        Story("~ begin | ~ do get_lock('state a', 1) | = rollback | - do release_lock('state a')"),
        Story("= do get_lock('state a', 1) | ~ begin | ~ do release_lock('state a') | - rollback"),
        Story("= select get_lock(concat('state ', name), 1) from items | - select release_all_locks()"),
    ),
    "TABLE_LOCK": (
        Story("= lock tables items read | - unlock tables"),
        Story("= lock tables items write | = lock tables items read | - unlock tables"),
        Story("= flush tables with read lock | - unlock tables"),
        Story("= flush tables items with read lock | - unlock tables"),
        Story("-! lock tables nothing read"),
        Story("= lock tables items read | ~ begin | - commit"),
    ),
    "USER_VARIABLE": (
        Story("= set @v = 1.5 | - set @v = 1"),
        Story("= set @v = 1.5e0 | - set @v = null"),
        Story("= set @v = x'ff00' | = set @w = 1.5 | = set @v = 'plain' | - set @w = null"),
        Story("= select 1.5 into @v | - select 1 into @v"),
        Story("- set @v = 1", never_pins=True),
        Story("- set @v = 'plain', @w = null", never_pins=True),
    ),
}


def tell(engine: Engine, world: World, reason: str, story: Story) -> None:
    """One session lives through the story, and the next one takes over its only backend."""
    outside = world.private()
    if story.outside:
        rows(outside, story.outside)
    world.events.clear()
    conn, other = world.sessions()
    value(other, "select 1")
    seen: set[str] = set()
    for step in story.text.split("|"):
        mark, text = step.strip()[0], step.strip()[1:].strip()
        if text.startswith("!"):
            with pytest.raises(DRIVER_ERRORS):
                rows(conn, text[1:])
        else:
            rows(conn, text)
        if mark != "~":
            assert conn.rdsproxy.pinned is (mark == "="), f"after {text!r}: {conn.rdsproxy.pins}"
            seen.update(each.name for each in conn.rdsproxy.pin_reasons)
            shown = {each.reason for each in world.proxies[-1].stats().pinned_sessions}
            assert shown == {each.name for each in conn.rdsproxy.pin_reasons}
    pinned, unpinned = world.told(SessionPinned), world.told(SessionUnpinned)
    assert len(unpinned) == len(pinned) or len(pinned) > len(unpinned) > 0
    assert bool(pinned) is not story.never_pins
    assert all(event.reason == reason for event in pinned), pinned
    assert seen <= {reason}
    before = conn.rdsproxy.backend_id
    assert engine.look(other) == engine.expected(Mine()), "something was left"
    assert not other.rdsproxy.pinned
    assert other.rdsproxy.backend_id == before
    value(conn, "select 1")
    stats = world.proxies[-1].stats()
    assert stats.database_connections_currently_session_pinned == 0
    assert stats.database_connections_currently_borrowed == 0
    assert world.told(rdsproxy_lib.StateLeaked) == []
    for each in (conn, other, outside):
        each.close()
    world.proxies[-1].close()


def tell_all(engine: Engine, world: World, reason: str, stories: tuple[Story, ...]) -> None:
    """Tell all of them, and name those that did not end well."""
    failures = []
    for story in stories:
        try:
            tell(engine, world, reason, story)
        except (AssertionError, *DRIVER_ERRORS) as error:
            failures.append(f"{story.text}\n    {type(error).__name__}: {error}")
            world.events.clear()
            for conn in world.opened:
                with suppress(*DRIVER_ERRORS):
                    conn.close()
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("reason", POSTGRESQL)
def test_a_pin_ends_with_its_cause_on_postgresql(postgres, reason):
    """What the server says it has decides: after rollbacks, failures, stacked locks and locks that were not got."""
    engine = PostgresOracle(postgres)
    tell_all(engine, postgres, reason, POSTGRESQL[reason])


@pytest.mark.parametrize("reason", MYSQL)
def test_a_pin_ends_with_its_cause_on_mysql(mysql, reason):
    """The names are counted, and the server is asked for locks."""
    mysql.admin("create table items (id int primary key auto_increment, name varchar(20))")
    mysql.admin("insert into items (name) values ('one'), ('two')")
    engine = MySQLOracle(mysql)
    tell_all(engine, mysql, reason, MYSQL[reason])


def test_backup_locks_end_on_mariadb(mysql):
    """BACKUP LOCK pins until BACKUP UNLOCK, BACKUP STAGE until its end."""
    if not mysql.is_mariadb:
        pytest.skip("MariaDB's")
    mysql.admin("create table items (id int)")
    tell_all(
        MySQLOracle(mysql),
        mysql,
        "TABLE_LOCK",
        (
            Story("= backup lock items | - backup unlock"),
            Story("= backup stage start | = backup stage block_commit | - backup stage end"),
        ),
    )


def test_a_manual_pin_ends_by_unpin(world):
    """pin() keeps the backend, also over transactions; unpin() gives it back, reset."""
    conn, other = world.sessions()
    conn.rdsproxy.pin("the audit trigger")
    mine = conn.rdsproxy.backend_id
    assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["MANUAL"]
    rows(conn, "begin")
    rows(conn, "commit")
    assert conn.rdsproxy.pinned
    (shown,) = world.proxies[0].stats().pinned_sessions
    assert (shown.reason, shown.what, shown.backend_id) == ("MANUAL", "the audit trigger", mine)
    conn.rdsproxy.unpin()
    assert not conn.rdsproxy.pinned
    value(other, "select 1")
    assert other.rdsproxy.backend_id == mine
    assert world.proxies[0].stats().resets == 1


def test_a_manual_pin_ends_with_its_block(world):
    """`with conn.rdsproxy.pin("why")` unpins at the end, also where the block fails; blocks may be nested."""
    conn, other = world.sessions()
    with pytest.raises(ZeroDivisionError), conn.rdsproxy.pin("a block"):
        with conn.rdsproxy.pin("an inner block"):
            assert conn.rdsproxy.pinned
        assert conn.rdsproxy.pinned
        raise ZeroDivisionError
    assert not conn.rdsproxy.pinned
    assert value(other, "select 1") == 1


def test_a_block_leaves_other_pins_alone(world):
    """A temporary table made inside a block of pin() keeps the session pinned after it."""
    conn, other = world.sessions()
    with conn.rdsproxy.pin("a block"):
        rows(conn, "create temporary table scratch (n int)")
    assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["TEMP_TABLE"]
    rows(conn, "drop table scratch")
    assert not conn.rdsproxy.pinned
    assert value(other, "select 1") == 1


def test_unpinning_amid_a_transaction_keeps_the_transaction(world):
    """unpin() inside a transaction does not end it; the backend is given back, reset, when it is over."""
    conn, other = world.sessions()
    rows(conn, "begin")
    conn.rdsproxy.pin("a while")
    conn.rdsproxy.unpin()
    assert not conn.rdsproxy.pinned
    assert conn.rdsproxy.in_transaction
    assert value(conn, "select 1") == 1
    rows(conn, "commit")
    assert value(other, "select 1") == 1
    assert other.rdsproxy.backend_id == conn.rdsproxy.backend_id


@pytest.mark.parametrize("end", ["unpin", "close"])
def test_what_an_unknown_routine_left_is_reset(world, end):
    """A pin for a routine nobody can judge ends by unpin() or close, and what it set is gone for the next session."""
    if isinstance(world, PostgresWorld):
        unknown, question = "do $$ begin execute 'set work_mem = ''99kB'''; end $$", "show work_mem"
    else:
        world.admin(
            "create procedure unknown() begin set @text = 'set net_read_timeout = 99'; prepare p from @text;"
            " execute p; deallocate prepare p; end"
        )
        unknown, question = "call unknown()", "select @@net_read_timeout"
    conn, other = world.sessions()
    usual = value(other, question)
    rows(conn, unknown)
    assert "UNKNOWN_ROUTINE" in {reason.name for reason in conn.rdsproxy.pin_reasons}
    assert value(conn, question) != usual
    if end == "close":
        conn.close()
    else:
        conn.rdsproxy.unpin()
        assert not conn.rdsproxy.pinned
    assert value(other, question) == usual


def test_the_settings_of_a_session_outlive_its_pins(world):
    """What a session had set before and while it was pinned goes with it afterwards, to any backend."""
    mem, tenant = ("work_mem", "app.tenant") if isinstance(world, PostgresWorld) else ("net_read_timeout", "@tenant")
    show = "select current_setting('{}')" if isinstance(world, PostgresWorld) else "select @@{}"
    proxy = world.proxy(max_connections=2)
    conn, other, third = (world.connect(proxy) for _ in range(3))
    rows(conn, f"set {mem} = 1001")
    rows(conn, "create temporary table scratch (n int)")
    rows(conn, f"set {tenant} = 'mine'")
    rows(conn, "drop table scratch")
    assert not conn.rdsproxy.pinned
    seen = set()
    for _ in range(4):
        rows(other, "begin")
        rows(third, "begin")
        rows(other, "commit")  # the one that was idle before is taken now
        value(conn, show.format(mem))
        seen.add(conn.rdsproxy.backend_id)
        rows(third, "commit")
        rows(other, "begin")
        mine = show.format(tenant) if isinstance(world, PostgresWorld) else f"select {tenant}"
        assert value(conn, show.format(mem)) in ("1001kB", 1001)
        assert value(conn, mine) == "mine"
        seen.add(conn.rdsproxy.backend_id)
        rows(other, "commit")
    assert len(seen) == 2
    assert proxy.stats().pinned_sessions == ()


def test_a_held_cursor_of_the_driver_unpins_when_it_is_closed(postgres):
    """conn.cursor(name, withhold=True) pins from its declaration to its close()."""
    conn, other = postgres.sessions()
    with conn.cursor("mine", withhold=True) as cursor:
        cursor.execute("select generate_series(1, 10)")
        assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["HOLD_CURSOR"]
        assert cursor.fetchone() == (1,)
    assert not conn.rdsproxy.pinned
    assert value(other, "select 1") == 1


def test_sessions_without_autocommit_unpin_at_the_end_of_their_transaction(world):
    """The server is asked when the transaction is over, not before."""
    proxy = world.proxy()
    conn, other = world.connect(proxy, autocommit=False), world.connect(proxy)
    rows(conn, "create temporary table scratch (n int)")
    conn.commit()
    assert conn.rdsproxy.pinned
    rows(conn, "drop table scratch")
    conn.commit()
    assert not conn.rdsproxy.pinned
    assert value(other, "select 1") == 1


def test_closing_a_pinned_session_frees_its_locks_at_once(world: Any):
    """close() resets the backend before it returns: another connection gets the lock, and the table's name."""
    conn, other = world.sessions()
    lock, unlock = ("select pg_try_advisory_lock(5)", "select pg_advisory_unlock(5)")
    if isinstance(world, MySQLWorld):
        lock, unlock = "select get_lock('state five', 0)", "select release_lock('state five')"
    outside = world.private()
    value(conn, lock)
    assert not value(outside, lock)
    conn.close()
    assert value(outside, lock)
    value(outside, unlock)
    assert value(other, "select 1") == 1
