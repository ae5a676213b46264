"""What may pin, how many may, and what is told about it: policies, limits, events, statistics, audit."""

from __future__ import annotations

import inspect
import logging
import time
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy

import rdsproxy_lib
from rdsproxy_lib import ConfigurationError, PinnedShareHigh, PinRefused, SessionPinned, SessionUnpinned, StateLeaked

from .conftest import MySQLWorld, PostgresWorld, World, rows, value

PINNING = {
    "postgresql": {
        "TEMP_TABLE": "create temp table scratch (n int)",
        "PREPARED_STATEMENT": "prepare scratch as select 1",
        "HOLD_CURSOR": "declare scratch cursor with hold for select 1",
        "ADVISORY_LOCK": "select pg_advisory_lock(77)",
        "LISTEN": "listen scratch",
        "UNKNOWN_ROUTINE": "do $$ begin execute 'set work_mem = ''99kB'''; end $$",
        "UNRESETTABLE": "select setseed(0.5)",
        "SETTING": "set standard_conforming_strings = off",
    },
    "mysql": {
        "TEMP_TABLE": "create temporary table scratch (n int)",
        "PREPARED_STATEMENT": "prepare scratch from 'select 1'",
        "HOLD_CURSOR": "handler items open",
        "NAMED_LOCK": "select get_lock('scratch', 0)",
        "TABLE_LOCK": "lock tables items read",
        "UNKNOWN_ROUTINE": "call unknown()",
        "SETTING": "set timestamp = 1",
    },
}
"""A statement for each reason."""


@pytest.fixture
def items(world: World) -> None:
    """The table and the procedure that the statements name."""
    world.admin("create table items (id int)")
    if isinstance(world, MySQLWorld):
        world.admin("create procedure unknown() begin set @text = 'do 1'; prepare p from @text; execute p; end")


def reasons(conn: Any) -> list[str]:
    """Why a session is pinned."""
    return [reason.name for reason in conn.rdsproxy.pin_reasons]


# -- policies


@pytest.mark.usefixtures("items")
def test_what_would_pin_is_refused_before_it_runs(world):
    """pin_policy="error": PinRefused, nothing is sent, and the session, also its transaction, goes on."""
    proxy = world.proxy(pin_policy="error")
    for text in PINNING[world.engine].values():
        conn = world.connect(proxy)
        with pytest.raises(PinRefused) as caught:
            rows(conn, text)
        assert isinstance(caught.value, rdsproxy_lib.Error)
        assert not conn.rdsproxy.pinned
        rows(conn, "begin")
        value(conn, "select 1")
        with pytest.raises(PinRefused):
            rows(conn, text)
        assert value(conn, "select 2") == 2
        rows(conn, "commit")
        conn.close()
    stats = proxy.stats()
    assert (dict(stats.pins), stats.resets) == ({}, 0)
    if isinstance(world, PostgresWorld):
        assert world.admin("select 1 from pg_locks where locktype = 'advisory' and objid = 77") == []


@pytest.mark.usefixtures("items")
def test_a_policy_may_name_reasons(world):
    """A mapping refuses some reasons, warns of others, and lets the rest pin."""
    texts = PINNING[world.engine]
    proxy = world.proxy(pin_policy={"TEMP_TABLE": "error", "PREPARED_STATEMENT": "warn", "UNKNOWN_ROUTINE": "pin"})
    conn = world.connect(proxy)
    with pytest.raises(PinRefused, match="TEMP_TABLE"):
        rows(conn, texts["TEMP_TABLE"])
    with pytest.warns(UserWarning, match="PREPARED_STATEMENT"):
        rows(conn, texts["PREPARED_STATEMENT"])
    rows(conn, texts["UNKNOWN_ROUTINE"])
    assert reasons(conn) == ["PREPARED_STATEMENT", "UNKNOWN_ROUTINE"]
    with pytest.raises(PinRefused):  # also where it is pinned already
        rows(conn, texts["TEMP_TABLE"])


def test_a_warning_is_given_where_the_application_is(world):
    """pin_policy="warn": a warning at the very line that ran the statement, which then runs and pins."""
    conn, other = world.sessions(pin_policy="warn")
    with pytest.warns(UserWarning, match="TEMP_TABLE") as caught:
        make_scratch(conn)
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, inspect.getsourcelines(make_scratch)[1] + 3)
    assert "TEMP_TABLE" in str(warning.message)
    assert reasons(conn) == ["TEMP_TABLE"]
    rows(conn, "insert into scratch values (1)")
    rows(conn, "drop table scratch")
    assert value(other, "select 1") == 1


def test_settings_need_no_leave(world):
    """What goes with the session does not pin, so that no policy refuses it."""
    conn, other = world.sessions(pin_policy="error")
    for setting in world.settings:
        rows(conn, setting.set)
        assert value(other, setting.show) == setting.usual
        assert value(conn, setting.show) == setting.mine


def test_who_asks_for_a_pin_gets_it(world):
    """pin() is not subject to policies."""
    conn, _ = world.sessions(pin_policy="error")
    with conn.rdsproxy.pin("why"):
        assert reasons(conn) == ["MANUAL"]


@pytest.mark.parametrize(
    "policy", ["refuse", {"TEMP_TABLES": "error"}, {"TEMP_TABLE": "refuse"}, {"MANUAL": "error"}, 1], ids=str
)
def test_policies_are_checked_when_the_proxy_is_made(policy):
    """A policy or a reason that does not exist is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="pin_policy"):
        rdsproxy_lib.Proxy("postgresql://app@localhost/app", pin_policy=policy)


# -- how many may pin


def test_pins_beyond_the_limit_are_refused_before_they_run(world):
    """max_pinned_percent=50 of four backends: the third session is refused until one of the two has ended its pin."""
    proxy = world.proxy(max_connections=4, max_pinned_percent=50)
    conns = [world.connect(proxy) for _ in range(3)]
    text = "create temporary table scratch (n int)"
    for conn in conns[:2]:
        rows(conn, text)
    rows(conns[2], "begin")
    with pytest.raises(PinRefused, match="max_pinned_percent"):
        rows(conns[2], text)
    assert value(conns[2], "select 1") == 1
    rows(conns[2], "commit")
    with pytest.raises(PinRefused):
        conns[2].rdsproxy.pin("why")
    prepare = PINNING[world.engine]["PREPARED_STATEMENT"]
    rows(conns[0], prepare)  # it is pinned already
    rows(conns[1], "drop table scratch")
    rows(conns[2], text)
    assert reasons(conns[2]) == ["TEMP_TABLE"]
    assert proxy.stats().database_connections_currently_session_pinned == 2


def test_one_session_may_always_pin(world):
    """However small max_pinned_percent is, one backend may be pinned."""
    proxy = world.proxy(max_connections=2, max_pinned_percent=0)
    first, second = world.connect(proxy), world.connect(proxy)
    rows(first, "create temporary table scratch (n int)")
    with pytest.raises(PinRefused):
        rows(second, "create temporary table scratch (n int)")
    assert value(second, "select 1") == 1


# -- EXCLUDE_VARIABLE_SETS and keep_diagnostics


def test_excluded_variable_sets_do_not_pin(mysql):
    """With the filter a variable that cannot be carried along does not pin; it may be lost, and nobody finds it."""
    proxy = mysql.proxy(session_pinning_filters=("EXCLUDE_VARIABLE_SETS",))
    conn, other = mysql.connect(proxy), mysql.connect(proxy)
    for text in ("set @odd = 1.5", "set timestamp = 1", "set @odd = x'ff00', @even = 2.5e0"):
        rows(conn, text)
        assert not conn.rdsproxy.pinned
        assert rows(other, "select @odd, @even, @@timestamp > 1000") == [(None, None, 1)]
    rows(conn, "begin")
    rows(conn, "set @odd = 1.5")
    assert float(value(conn, "select @odd")) == 1.5  # within its transaction
    rows(conn, "commit")
    assert dict(proxy.stats().pins) == {}


def test_excluded_variable_sets_pin_for_everything_else(mysql):
    """The filter is about SET alone: temporary tables and locks still pin."""
    proxy = mysql.proxy(session_pinning_filters=("EXCLUDE_VARIABLE_SETS",))
    conn = mysql.connect(proxy)
    rows(conn, "create temporary table scratch (n int)")
    assert reasons(conn) == ["TEMP_TABLE"]


def test_postgresql_has_no_pinning_filters(postgres):
    """As RDS Proxy: the option is refused there."""
    with pytest.raises(ConfigurationError, match="session_pinning_filters"):
        postgres.proxy(session_pinning_filters=("EXCLUDE_VARIABLE_SETS",))


def test_kept_diagnostics_of_mysql(mysql):
    """keep_diagnostics=True: the statement after a write finds what it left, whatever others do, and nothing pins."""
    mysql.admin("create table numbered (id int primary key auto_increment, n tinyint)")
    proxy = mysql.proxy(max_connections=2, keep_diagnostics=True)
    conn, other = mysql.connect(proxy), mysql.connect(proxy)
    for number in range(1, 4):
        rows(other, "insert into numbered (n) values (0), (0), (0)")
        rows(other, "select 1")
        rows(conn, "insert into numbered (n) values (1), (2)")
        first = value(mysql.private(), "select max(id) - 1 from numbered")
        with other.cursor() as cursor:
            cursor.execute("update numbered set n = 9 where n = 0")
            rows(other, "select 1")
        assert value(conn, "select row_count()") == 2
        rows(conn, "insert into numbered (n) values (3)")
        assert value(conn, "select last_insert_id()") == first + 2
        rows(conn, "insert ignore into numbered (n) values (1000)")
        assert [code for _, code, _ in rows(conn, "show warnings")] == [1264]
        value(conn, "select 1")
        assert not conn.rdsproxy.pinned
        assert proxy.stats().database_connections_currently_borrowed == 0, number
    assert dict(proxy.stats().pins) == {}


def test_kept_diagnostics_of_postgresql(postgres):
    """keep_diagnostics=True: currval() and lastval() right after an INSERT are answered."""
    postgres.admin("create table numbered (id serial primary key)")
    postgres.admin("grant all on numbered to public; grant all on numbered_id_seq to public")
    proxy = postgres.proxy(max_connections=2, keep_diagnostics=True)
    conn, other = postgres.connect(proxy), postgres.connect(proxy)
    for number in range(4):
        rows(other, "insert into numbered default values")
        value(other, "select 1")
        rows(conn, "insert into numbered default values")
        rows(other, "insert into numbered default values")
        value(other, "select 1")
        question = "select lastval()" if number % 2 else "select currval('numbered_id_seq')"
        assert value(conn, question) == 3 * number + 2
        assert proxy.stats().database_connections_currently_borrowed == 0
    assert dict(proxy.stats().pins) == {}


def test_found_rows_are_kept_for_one_statement(mysql):
    """SQL_CALC_FOUND_ROWS holds the backend until the next statement is over, and does not pin."""
    mysql.admin("create table items (id int)")
    mysql.admin("insert into items values (1), (2), (3), (4), (5)")
    proxy = mysql.proxy(max_connections=2)
    conn, other = mysql.connect(proxy), mysql.connect(proxy)
    for _ in range(3):
        assert len(rows(conn, "select sql_calc_found_rows id from items limit 2")) == 2
        assert proxy.stats().database_connections_currently_borrowed == 1
        assert not conn.rdsproxy.pinned
        rows(other, "select id from items")
        assert value(conn, "select found_rows()") == 5
        assert proxy.stats().database_connections_currently_borrowed == 0
    rows(conn, "select sql_calc_found_rows id from items limit 2")
    conn.close()
    assert proxy.stats().database_connections_currently_borrowed == 0
    assert dict(proxy.stats().pins) == {}


# -- what is told


def make_scratch(conn: Any) -> None:
    """An application's function that pins."""
    with conn.cursor() as cursor:
        cursor.execute("create temporary table scratch as select 'a secret' as word")


def test_a_pin_is_told_with_its_statement_and_call_site(world):
    """The event and stats() name the reason, the statement without its literals, and the line of the caller."""
    conn, _ = world.sessions()
    make_scratch(conn)
    (event,) = world.told(SessionPinned)
    assert (event.reason, event.backend_id) == ("TEMP_TABLE", conn.rdsproxy.backend_id)
    assert "TEMP" in event.what
    assert "create temporary table scratch" in event.statement.lower()
    assert "a secret" not in repr(event)
    line = inspect.getsourcelines(make_scratch)[1] + 3
    assert event.call_site == f"{__file__}:{line} in make_scratch"
    (shown,) = world.proxies[0].stats().pinned_sessions
    assert (shown.reason, shown.what, shown.statement, shown.call_site, shown.backend_id) == (
        event.reason,
        event.what,
        event.statement,
        event.call_site,
        event.backend_id,
    )
    assert 0 <= shown.seconds < 60
    assert world.proxies[0].stats().pins == {"TEMP_TABLE": 1}


def test_a_pin_is_logged(world, caplog):
    """One line at INFO when it begins and one when it ends, with the reason and where it was; no values."""
    conn, _ = world.sessions()
    with caplog.at_level(logging.INFO, "rdsproxy_lib"):
        make_scratch(conn)
        rows(conn, "drop table scratch")
    lines = [record.getMessage() for record in caplog.records if "pinned" in record.getMessage()]
    assert len(lines) == 2
    assert all(word in lines[0] for word in ("TEMP_TABLE", "make_scratch", str(conn.rdsproxy.backend_id)))
    assert "a secret" not in caplog.text


def test_the_end_of_a_pin_is_told(world):
    """SessionUnpinned has all reasons it had, and for how long; one event for a session, not for each reason."""
    conn, _ = world.sessions()
    make_scratch(conn)
    rows(conn, PINNING[world.engine]["PREPARED_STATEMENT"])
    time.sleep(0.05)
    rows(conn, "drop table scratch")
    assert world.told(SessionUnpinned) == []
    rows(conn, "deallocate prepare scratch")
    (event,) = world.told(SessionUnpinned)
    assert event.reasons in (("PREPARED_STATEMENT",), ("TEMP_TABLE", "PREPARED_STATEMENT"))
    assert 0.05 <= event.seconds < 60
    assert event.backend_id == conn.rdsproxy.backend_id
    assert world.proxies[0].stats().pinned_sessions == ()


def test_closing_a_pinned_session_is_told(world):
    """close() ends the pins, and SessionUnpinned says so."""
    conn, _ = world.sessions()
    make_scratch(conn)
    conn.close()
    (event,) = world.told(SessionUnpinned)
    assert event.reasons == ("TEMP_TABLE",)


def test_a_high_share_of_pinned_backends_is_told_once(world):
    """PinnedShareHigh comes when half of the backends are pinned, and again only after the share was lower."""
    proxy = world.proxy(max_connections=4)
    conns = [world.connect(proxy) for _ in range(3)]
    make_scratch(conns[0])
    assert world.told(PinnedShareHigh) == []
    make_scratch(conns[1])
    assert world.told(PinnedShareHigh) == [PinnedShareHigh(pinned=2, limit=4)]
    make_scratch(conns[2])
    rows(conns[1], PINNING[world.engine]["PREPARED_STATEMENT"])
    assert len(world.told(PinnedShareHigh)) == 1
    for conn in conns[:2]:
        rows(conn, "drop table scratch")
    rows(conns[1], "deallocate prepare scratch")
    make_scratch(conns[0])
    assert len(world.told(PinnedShareHigh)) == 2


def test_the_call_site_is_the_applications_behind_a_framework(world):
    """Frames of SQLAlchemy and of the driver are not what is meant."""
    proxy = world.proxy()
    dialect = "postgresql+psycopg" if isinstance(world, PostgresWorld) else "mysql+pymysql"
    engine = sqlalchemy.create_engine(f"{dialect}://", creator=proxy.connect)
    with engine.connect() as conn:
        conn.execute(sqlalchemy.text("create temporary table scratch (n int)"))
        line = inspect.currentframe().f_lineno - 1
        (event,) = world.told(SessionPinned)
        assert event.call_site.startswith(f"{__file__}:{line} in test_the_call_site")
        conn.execute(sqlalchemy.text("drop table scratch"))
        conn.commit()
    engine.dispose()


def test_a_handler_that_fails_does_no_harm(world, caplog):
    """What a handler raises is logged; the statement and the other handlers go on."""
    proxy = world.proxy(max_connections=4)
    proxy.add_event_handler(lambda event: 1 / 0)
    seen: list[Any] = []
    proxy.add_event_handler(seen.append)
    conn = world.connect(proxy)
    make_scratch(conn)
    assert [type(event) for event in seen] == [SessionPinned]
    assert "ZeroDivisionError" in caplog.text
    proxy.remove_event_handler(seen.append)
    rows(conn, "drop table scratch")
    assert len(seen) == 1
    assert len(world.told(SessionUnpinned)) == 1


def test_a_handler_may_use_the_proxy(world):
    """No lock is held when an event is told: stats() can be asked, and another session used."""
    proxy = world.proxy(max_connections=4)
    other = world.connect(proxy)
    seen: list[Any] = []
    proxy.add_event_handler(lambda event: seen.append((value(other, "select 1"), len(proxy.stats().pinned_sessions))))
    conn = world.connect(proxy)
    make_scratch(conn)
    rows(conn, "drop table scratch")
    assert [answer for answer, _ in seen] == [1, 1]


def test_each_pinned_session_is_shown(world):
    """stats().pinned_sessions has an entry for each reason of each session, the longest pinned first."""
    proxy = world.proxy(max_connections=3)
    first, second, third = (world.connect(proxy) for _ in range(3))
    make_scratch(first)
    rows(second, PINNING[world.engine]["PREPARED_STATEMENT"])
    make_scratch(second)
    value(third, "select 1")
    shown = proxy.stats().pinned_sessions
    assert [(each.reason, each.backend_id) for each in shown] == [
        ("TEMP_TABLE", first.rdsproxy.backend_id),
        ("PREPARED_STATEMENT", second.rdsproxy.backend_id),
        ("TEMP_TABLE", second.rdsproxy.backend_id),
    ]
    assert shown[0].seconds >= shown[1].seconds >= shown[2].seconds
    first.close()
    assert {each.backend_id for each in proxy.stats().pinned_sessions} == {second.rdsproxy.backend_id}


# -- audit


def test_a_leak_is_told_with_the_statements_behind_it(world, caplog):
    """audit=True finds what a trigger left, which no text shows: StateLeaked, an error in the log; the backend goes."""
    if isinstance(world, PostgresWorld):
        world.admin(
            "create table items (id int); grant all on items to public;"
            "create function leave() returns trigger language plpgsql as"
            " $$ begin perform set_config('work_mem', '99kB', false), pg_advisory_lock(4711); return new; end $$;"
            "create trigger leave before insert on items for each row execute function leave()"
        )
        findings, question, usual = ("work_mem", "lock"), "show work_mem", "4MB"
    else:
        world.admin("create table items (id int)")
        world.admin("create trigger leave_it before insert on items for each row do get_lock('state leak', 0)")
        findings, question, usual = ("state leak",), "select is_used_lock('state leak')", None
    conn, other = world.sessions(audit=True)
    value(conn, "select 1")
    with caplog.at_level(logging.ERROR, "rdsproxy_lib"):
        rows(conn, "insert into items values (12345)")
    left = conn.rdsproxy.backend_id
    (event,) = world.told(StateLeaked)
    world.events.clear()
    assert event.backend_id == left
    assert all(any(word in each for each in event.findings) for word in findings), event
    assert any("insert into items" in each.lower() for each in event.statements)
    assert "12345" not in repr(event)
    assert "99kB" not in repr(event)
    assert not any("select 1" in each.lower() for each in event.statements), "that was before the borrow"
    assert len(caplog.records) == 1
    assert value(other, question) == usual
    assert other.rdsproxy.backend_id != left


def test_an_audit_finds_nothing_where_nothing_was_left(world):
    """Settings that are taken along, pins that ended, transactions and errors are no findings."""
    conn, other = world.sessions(audit=True)
    for setting in world.settings:
        rows(conn, setting.set)
    make_scratch(conn)
    rows(conn, "drop table scratch")
    rows(conn, "begin")
    value(conn, "select 1")
    rows(conn, "rollback")
    with pytest.raises(Exception, match="nothing_of_this_name"):
        rows(conn, "select * from nothing_of_this_name")
    for setting in world.settings:
        assert value(other, setting.show) == setting.usual
        assert value(conn, setting.show) == setting.mine
    assert world.told(StateLeaked) == []


def test_an_audit_costs_nothing_where_it_is_off(postgres):
    """Without audit=True a plain statement is one round trip."""
    with postgres.relay() as relay:
        proxy = postgres.proxy(port=relay.port, audit=False)
        with closing(proxy.connect(autocommit=True)) as conn:
            conn.execute("select 1")
            before = relay.traffic()
            conn.execute("select 1")
            assert (relay.traffic() - before).round_trips == 1
