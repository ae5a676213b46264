# ruff: noqa: PT017  # an error is allowed, and then has to be the right one
"""A database connection dies at the worst moment: settings survive or the error says so, and nothing gets across."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pymysql
import pytest

from rdsproxy_lib import OutcomeUnknown, Proxy, SessionLost, TransactionLost
from rdsproxy_lib.backend import Backend

from .conftest import Setting, World, rows, seed, value

DRIVER_ERRORS = (psycopg.Error, pymysql.MySQLError)


@pytest.fixture(params=[0, 1], ids=["the server's setting", "the application's setting"])
def setting(request: Any, world: World) -> Setting:
    """One that the server knows, then one that it does not."""
    return world.settings[request.param]


class Moment:
    """A method of the engine, around which a fault happens. `hits` counts how often it was called meanwhile."""

    def __init__(self) -> None:
        self.hits = 0


@contextmanager
def fault(
    proxy: Proxy, method: str, act: Callable[[Any], None], *, when: str = "before", times: int = 1
) -> Iterator[Moment]:
    """The first calls of this method of the engine find that `act(backend)` happened just before, or just after."""
    original = getattr(proxy.engine, method)
    moment = Moment()

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        (backend,) = (each for each in arguments if isinstance(each, Backend))
        moment.hits += 1
        if moment.hits > times:
            return original(*arguments, **keywords)
        if when == "before":
            act(backend)
            return original(*arguments, **keywords)
        answer = original(*arguments, **keywords)
        act(backend)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy.engine, method, wrapped, raising=True)
        yield moment


def killing(world: World) -> Callable[[Any], None]:
    return lambda backend: world.kill(backend.identity)


def check_intact(world: World, proxy: Proxy, *sessions: Any) -> None:
    """Nothing is borrowed, nothing of the settings is found by new sessions, and the sessions can all still work."""
    assert proxy.stats().database_connections_currently_borrowed == 0
    fresh = [world.connect(proxy) for _ in range(2)]
    for conn in fresh:
        for setting in world.settings:
            assert value(conn, setting.show) == setting.usual
    for conn in (*fresh, *sessions):
        rows(conn, "begin")
        assert value(conn, "select 1") == 1
        rows(conn, "commit")
        assert not conn.rdsproxy.pinned
    assert proxy.stats().database_connections_currently_borrowed == 0


# -- between statements


def test_settings_survive_a_backend_that_died_while_it_was_idle(world, setting):
    """The session is given another backend with the same settings, and notices nothing."""
    conn, other = world.sessions()
    rows(conn, setting.set)
    for _ in range(3):
        world.kill(conn.rdsproxy.backend_id)
        assert value(conn, setting.show) == setting.mine
        assert value(other, setting.show) == setting.usual
    check_intact(world, world.proxies[0], conn, other)


def test_settings_survive_the_end_of_all_connections(world, setting):
    """A network that resets every connection between two statements is nobody's trouble."""
    with world.relay() as relay:
        proxy = world.proxy(port=relay.port, max_connections=2)
        conn, other = world.connect(proxy), world.connect(proxy)
        rows(conn, setting.set)
        relay.reset_all()
        assert value(conn, setting.show) == setting.mine
        relay.reset_all()
        assert value(other, setting.show) == setting.usual
        relay.reset_all()
        check_intact(world, proxy, conn, other)
        assert value(conn, setting.show) == setting.mine


def test_a_setting_whose_answer_was_cut_is_as_it_was_or_as_was_asked(world, setting):
    """SET is sent again or raises the driver's error; the session then has the old value or the new, and keeps it."""
    with world.relay() as relay:
        proxy = world.proxy(port=relay.port)
        conn, other = world.connect(proxy), world.connect(proxy)
        value(conn, "select 1")
        relay.cut_after(0, "to_client")
        try:
            rows(conn, setting.set)
            expected = setting.mine
        except DRIVER_ERRORS:
            expected = setting.usual
        for _ in range(2):
            assert value(conn, setting.show) == expected
            assert value(other, setting.show) == setting.usual
        check_intact(world, proxy, conn, other)


REFUSED = {
    "postgresql": (
        "set work_mem = 'nonsense'",
        "set work_mem = '1kB'",
        "set timezone = 'Nowhere/Nothing'",
        "set client_encoding = 'nonsense'",
        "set role nobody_of_this_name",
        "set role postgres",
        "set session authorization postgres",
        "set session_replication_role = replica",
        "set log_statement = 'all'",
        "set nothing_of_this_name = 1",
        "select set_config('work_mem', 'nonsense', false)",
        "set work_mem = '77kB'; set work_mem = 'nonsense'",
        "set search_path to public; select 1 / 0",
    ),
    "mysql": (
        "set net_read_timeout = 'nonsense'",
        "set sql_mode = 'nonsense'",
        "set names nonsense",
        "set time_zone = 'nonsense'",
        "set role nobody_of_this_name",
        "use nothing_of_this_name",
        "set sql_log_bin = 0",
        "set net_read_timeout = 77, nothing_of_this_name = 1",
        "set @tenant = nothing_of_this_name",
        "set session transaction isolation level nonsense",
        "set pseudo_thread_id = 1",
        "set global net_read_timeout = 1",
    ),
}


def test_a_setting_that_is_refused_fails_at_once_and_never_later(world):
    """The statement that sets it fails; the session goes on with what it had, on any backend, and is not pinned."""
    conn, other = world.sessions()
    for setting in world.settings:
        rows(conn, setting.set)
    for text in REFUSED[world.engine]:
        try:
            rows(conn, text)
        except DRIVER_ERRORS:
            assert not conn.rdsproxy.in_transaction, text
        else:
            assert text in ("set sql_log_bin = 0", "set pseudo_thread_id = 1", "set global net_read_timeout = 1"), text
            continue  # it depends on the server who may
        assert not conn.rdsproxy.pinned, (text, conn.rdsproxy.pins)
        for setting in world.settings:
            assert value(other, setting.show) == setting.usual, text
            assert value(conn, setting.show) == setting.mine, text
    check_intact(world, world.proxies[0], conn, other)


# -- inside transactions


def test_settings_survive_a_lost_transaction(world, setting):
    """A transaction that was lost takes along nothing of what was set before it."""
    conn, other = world.sessions()
    rows(conn, setting.set)
    rows(conn, "begin")
    value(conn, "select 1")
    world.kill(conn.rdsproxy.backend_id)
    with pytest.raises(TransactionLost):
        value(conn, "select 1")
    conn.rollback()
    assert value(conn, setting.show) == setting.mine
    assert value(other, setting.show) == setting.usual
    check_intact(world, world.proxies[0], conn, other)


def test_a_setting_of_a_lost_transaction(world, setting):
    """PostgreSQL takes it back with the transaction. MySQL would have kept it, so that there the session is lost."""
    before = next(each for each in world.settings if each is not setting)
    conn, other = world.sessions()
    rows(conn, before.set)
    rows(conn, "begin")
    rows(conn, setting.set)
    world.kill(conn.rdsproxy.backend_id)
    with pytest.raises(TransactionLost if world.engine == "postgresql" else SessionLost):
        value(conn, "select 1")
    if world.engine == "postgresql":
        conn.rollback()
        assert value(conn, before.show) == before.mine
        assert value(conn, setting.show) == setting.usual
    else:
        with pytest.raises(DRIVER_ERRORS):
            value(conn, "select 1")
        conn.close()
    assert value(other, setting.show) == setting.usual
    check_intact(world, world.proxies[0], other)


def test_settings_survive_a_commit_of_unknown_outcome(world, setting):
    """What was set before the transaction stays, also where nobody can tell what became of the transaction."""
    world.admin("create table items (id int)")
    if world.engine == "postgresql":
        world.admin("grant all on items to public")
    conn, other = world.sessions()
    rows(conn, setting.set)
    rows(conn, "begin")
    rows(conn, "insert into items values (1)")
    world.kill(conn.rdsproxy.backend_id)
    with pytest.raises(OutcomeUnknown):
        rows(conn, "commit")
    assert value(conn, setting.show) == setting.mine
    check_intact(world, world.proxies[0], conn, other)


# -- when it is learnt what was set


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_setting_that_could_not_be_learnt(world, setting, when):
    """Under autocommit the backend dies between SET and the question what it set: the old value, or the new one."""
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    value(conn, "select 1")
    with fault(proxy, "learn", killing(world), when=when) as moment:
        try:
            rows(conn, setting.set)
            expected = setting.mine
        except DRIVER_ERRORS as error:
            assert not isinstance(error, OutcomeUnknown)
            expected = setting.usual
    assert moment.hits
    for _ in range(2):
        assert value(conn, setting.show) == expected
        assert value(other, setting.show) == setting.usual
    check_intact(world, proxy, conn, other)


@pytest.mark.parametrize("end", ["commit", "commit()"])
def test_a_commit_whose_settings_could_not_be_learnt(world, setting, end):
    """The COMMIT happened, and is not called unknown; the session is lost, or has its settings."""
    world.admin("create table items (id int)")
    if world.engine == "postgresql":
        world.admin("grant all on items to public")
    proxy = world.proxy()
    conn, other = world.connect(proxy, autocommit=end == "commit"), world.connect(proxy)
    if end == "commit":
        rows(conn, "begin")
    rows(conn, "insert into items values (1)")
    rows(conn, setting.set)
    with fault(proxy, "learn", killing(world)) as moment:
        try:
            rows(conn, "commit") if end == "commit" else conn.commit()
            assert value(conn, setting.show) == setting.mine
            conn.rollback()
        except SessionLost as lost:
            assert not lost.retry_safe
            with pytest.raises(DRIVER_ERRORS):
                value(conn, "select 1")
            conn.close()
    assert moment.hits
    assert world.admin("select id from items") == [(1,)]
    check_intact(world, proxy, other)


def test_a_rollback_whose_settings_could_not_be_learnt(world, setting):
    """After ROLLBACK the session has what it had, or is lost; never something else."""
    before = next(each for each in world.settings if each is not setting)
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    rows(conn, before.set)
    rows(conn, "begin")
    rows(conn, setting.set)
    with fault(proxy, "learn", killing(world)) as moment:
        try:
            rows(conn, "rollback")
            expected = setting.usual if world.engine == "postgresql" else setting.mine
            assert value(conn, setting.show) == expected
            assert value(conn, before.show) == before.mine
        except SessionLost:
            conn.close()
    assert moment.hits
    check_intact(world, proxy, other)


# -- when settings are made again


@pytest.mark.parametrize("when", ["before", "after"])
def test_settings_survive_a_backend_that_died_in_their_replay(world, setting, when):
    """A backend that dies while it is given the settings is replaced; at most one read ends with the driver's error."""
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    rows(conn, setting.set)
    value(other, "select 1")
    with fault(proxy, "apply", killing(world), when=when) as moment:
        try:
            assert value(conn, setting.show) == setting.mine
        except DRIVER_ERRORS as error:
            assert when == "after"
            assert not isinstance(error, (SessionLost, TransactionLost, OutcomeUnknown))
    assert moment.hits
    assert value(conn, setting.show) == setting.mine
    assert value(other, setting.show) == setting.usual
    check_intact(world, proxy, conn, other)


def test_settings_survive_a_replay_that_was_cut_again_and_again(world, setting):
    """The fourth backend is as good as the first."""
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    rows(conn, setting.set)
    value(other, "select 1")
    with fault(proxy, "apply", killing(world), times=3) as moment:
        assert value(conn, setting.show) == setting.mine
    assert moment.hits == 4
    check_intact(world, proxy, conn, other)


def test_a_transaction_begins_with_its_settings_although_their_replay_was_cut(world, setting):
    """The first statement of a transaction that finds its backend dead begins again on another one."""
    proxy = world.proxy()
    conn, other = world.connect(proxy, autocommit=False), world.connect(proxy)
    rows(conn, setting.set)
    conn.commit()
    value(other, "select 1")
    with fault(proxy, "apply", killing(world)) as moment:
        assert value(conn, setting.show) == setting.mine
    assert moment.hits
    conn.commit()
    assert value(conn, setting.show) == setting.mine
    conn.commit()
    check_intact(world, proxy, other)


# -- in a reset


@pytest.mark.parametrize("end", ["close", "unpin"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_backend_that_died_in_its_reset_is_replaced(world, when, end):
    """close() and unpin() do not raise, the failure is counted, and the next session has a clean backend."""
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    rows(conn, world.settings[0].set)
    rows(conn, "create temporary table scratch (n int)") if end == "close" else conn.rdsproxy.pin("a while")
    with fault(proxy, "reset", killing(world), when=when) as moment:
        conn.close() if end == "close" else conn.rdsproxy.unpin()
    assert moment.hits == 1
    assert (proxy.stats().resets, proxy.stats().reset_failures) == ((0, 1) if when == "before" else (1, 0))
    if end == "unpin":
        assert value(conn, world.settings[0].show) == world.settings[0].mine
    with pytest.raises(DRIVER_ERRORS):
        value(other, "select * from scratch")
    rows(other, "rollback")
    check_intact(world, proxy, other)


def test_a_backend_whose_reset_is_refused_is_closed(world):
    """A reset that the server answers with an error is no reset: pgagroal #941, pgbouncer #1358."""
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    rows(conn, "create temporary table scratch (n int)")
    before = conn.rdsproxy.backend_id

    def refuse(backend: Any) -> None:
        rows(backend.raw, "select * from nothing_of_this_name")

    with fault(proxy, "reset", refuse):
        conn.close()
    stats = proxy.stats()
    assert (stats.resets, stats.reset_failures, stats.database_connections) == (0, 1, 0)
    value(other, "select 1")
    assert other.rdsproxy.backend_id != before
    check_intact(world, proxy, other)


# -- when it is asked whether a pin has ended


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_backend_that_died_when_its_pin_ended(world, when):
    """The session lives on with its settings, or is lost; its backend is not lent again."""
    proxy = world.proxy()
    conn, other = world.connect(proxy), world.connect(proxy)
    rows(conn, world.settings[0].set)
    rows(conn, "create temporary table scratch (n int)")
    with fault(proxy, "ended", killing(world), when=when) as moment:
        try:
            rows(conn, "drop table scratch")
            assert value(conn, world.settings[0].show) == world.settings[0].mine
        except SessionLost:
            conn.close()
    assert moment.hits
    check_intact(world, proxy, other)


# -- anywhere


def test_a_cut_at_any_byte_leaves_settings_that_were_asked_for(world, record_property):
    """Whatever byte of whatever exchange is the last: each session has a value it asked for, and never another's."""
    first = seed()
    record_property("seed", f"{world.name}, cuts at any byte: STATE_SEED={first}")
    dice = random.Random(first)
    for _ in range(25):
        direction = dice.choice(("to_client", "to_server"))
        offset = int(dice.triangular(0, 2000, 0))
        with world.relay() as relay:
            proxy = world.proxy(port=relay.port, audit=False)
            sessions = [Cut(world, world.connect(proxy), number) for number in range(3)]
            for each in sessions:
                each.show()
            relay.cut_after(offset, direction)
            for number in range(12):
                sessions[number % 3].step(number)
            for each in sessions:
                each.finish()
            fresh = Cut(world, world.connect(proxy), 9)
            fresh.show()
            fresh.finish()
            assert proxy.stats().database_connections_currently_borrowed == 0
            proxy.close()


class Cut:
    """A session that sets, under autocommit or in transactions, and knows what it may have after an error."""

    def __init__(self, world: World, conn: Any, number: int) -> None:
        self.world, self.conn, self.number = world, conn, number
        self.setting = world.settings[0]
        self.possible: set[Any] = {self.setting.usual}
        self.is_lost = False

    def text(self, number: int) -> tuple[str, Any]:
        new = 1001 + 100 * self.number + 2 * number
        text = self.setting.set.replace("1001", str(new))
        return text, f"{new}kB" if self.world.engine == "postgresql" else new

    def step(self, number: int) -> None:
        if self.is_lost:
            return
        text, new = self.text(number)
        in_transaction = number % 2 == 1
        try:
            if in_transaction:
                rows(self.conn, "begin")
            rows(self.conn, text)
            if in_transaction:
                rows(self.conn, "commit")
            self.possible = {new}
        except DRIVER_ERRORS as error:
            self.after(error)
            self.possible |= {new}
        self.show()

    def show(self) -> None:
        """It has one of the possible values, and from then on that one."""
        for _ in range(3):
            if self.is_lost:
                return
            try:
                shown = value(self.conn, self.setting.show)
            except DRIVER_ERRORS as error:
                self.after(error)
                continue
            assert shown in self.possible
            self.possible = {shown}

    def after(self, error: Exception) -> None:
        """The application's part: roll back, or leave the session where it was lost."""
        try:
            if isinstance(error, SessionLost):
                raise error
            rows(self.conn, "rollback")
        except SessionLost:
            with pytest.raises(DRIVER_ERRORS):
                value(self.conn, "select 1")
            self.is_lost = True

    def finish(self) -> None:
        self.show()
        self.conn.close()
