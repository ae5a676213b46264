"""The connection itself: facts, life, errors, notices, notifications, cancelling, types and threads."""

from __future__ import annotations

import contextlib
import gc
import logging
import pickle
import re
import selectors
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any

import psycopg
import pytest
from psycopg import errors, rows
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.multirange import Multirange, MultirangeInfo, register_multirange
from psycopg.types.range import Range, RangeInfo, register_range

IDLE, ACTIVE, INTRANS = TransactionStatus.IDLE, TransactionStatus.ACTIVE, TransactionStatus.INTRANS
SECONDS = 15.0


def bring_to(state: str, conn: Any) -> None:
    """Bring a connection into a state that a test is about."""
    if state in ("idle", "transaction"):
        conn.execute("select 1")
    if state == "idle":
        conn.commit()
    if state == "failed":
        with contextlib.suppress(errors.DivisionByZero):
            conn.execute("select 1/0")
    if state == "closed":
        conn.close()


def told(question: Any) -> Any:
    """What a call returned, or the class and words of what it raised."""
    try:
        return question()
    except psycopg.Error as error:
        return type(error), str(error)


# -- facts

FACTS = [
    "vendor",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "status",
    "transaction_status",
    "pipeline_status",
    "server_version",
    "full_protocol_version",
    "error_message",
    "timezone",
    "encoding",
]


@pytest.mark.parametrize("state", ["new", "idle", "transaction", "failed", "closed"])
def test_info_tells_the_same_facts(same, state):
    """Every property of `conn.info` is what a private connection tells, in each state."""

    def story(conn):
        bring_to(state, conn)
        return {fact: told(lambda: getattr(conn.info, fact)) for fact in FACTS}  # noqa: B023

    same(story, options="-c TimeZone=Asia/Tokyo")


def test_info_tells_the_parameters(same):
    """get_parameters() and dsn name what was asked for at connect, without the password."""

    def story(conn):
        return conn.info.get_parameters(), psycopg.conninfo.conninfo_to_dict(conn.info.dsn)

    parameters, dsn = same(story, application_name="facts", connect_timeout=9)
    assert (parameters["application_name"], parameters["connect_timeout"]) == ("facts", "9")
    assert "password" not in dsn


def test_info_tells_the_servers_parameters(same):
    """parameter_status() is the server's report, before and after the first statement."""
    names = ("server_encoding", "client_encoding", "TimeZone", "DateStyle", "application_name", "nonsense")

    def story(conn):
        before = {name: conn.info.parameter_status(name) for name in names}
        conn.execute("select 1")
        assert before == {name: conn.info.parameter_status(name) for name in names}
        return before

    assert same(story, application_name="facts")["application_name"] == "facts"


@pytest.mark.parametrize("autocommit", [True, False])
def test_info_tells_what_the_session_has_set(same, autocommit):
    """Encoding, time zone and reported parameters are the session's own, with a backend and without one."""
    names = ("client_encoding", "TimeZone", "DateStyle", "IntervalStyle", "application_name")

    def facts(conn):
        reported = {name: conn.info.parameter_status(name) for name in names}
        return reported, conn.info.encoding, str(conn.info.timezone)

    def story(conn):
        told = [facts(conn)]
        for text in (
            "set timezone to 'Asia/Tokyo'; set application_name = 'mine'",
            "select set_config('client_encoding', 'LATIN1', false), set_config('intervalstyle', 'iso_8601', false)",
            "set datestyle to 'sql, dmy'",
            "reset client_encoding",
        ):
            conn.execute(text)
            told.append(facts(conn))
            conn.commit()
            told.append(facts(conn))
            told.append(conn.execute("select timestamptz '2026-01-01 00:00+00' = %s, 'ñ'", ["2026-01-01Z"]).fetchone())
            conn.rollback()
        conn.execute("discard all" if autocommit else "reset all")
        told.append(facts(conn))
        conn.rollback()
        return [*told, facts(conn)]

    told = same(story, autocommit=autocommit)
    assert [told[at][1:] for at in (0, 5, -4, -2, -1)] == [
        ("utf-8", "UTC"),
        ("iso8859-1", "Asia/Tokyo"),
        ("utf-8", "Asia/Tokyo"),
        ("utf-8", "UTC"),
        ("utf-8", "UTC" if autocommit else "Asia/Tokyo"),  # rolled back
    ]


def test_backend_pid_is_of_the_backend_in_use(connect):
    """Inside a transaction info.backend_pid is the server's own answer."""
    connect.may_pin("RAW_ACCESS")
    conn = connect()
    (pid,) = conn.execute("select pg_backend_pid()").fetchone()
    assert conn.info.backend_pid == pid


def test_application_name_is_the_sessions(connect):
    """The application name given to connect is what the server sees for this session's statements."""
    ask = "select application_name from pg_stat_activity where pid = pg_backend_pid()"
    first, second = (connect(application_name=name, autocommit=True) for name in ("first", "second"))
    assert [conn.execute(ask).fetchone()[0] for conn in (first, second, first)] == [
        "first",
        "second",
        "first",
    ]


def test_options_are_the_sessions(connect):
    """Settings given in `options` hold for this session and for no other."""
    first, second = connect(options="-c search_path=pg_catalog", autocommit=True), connect(autocommit=True)
    assert [conn.execute("show search_path").fetchone()[0] for conn in (first, second, first)] == [
        "pg_catalog",
        '"$user", public',
        "pg_catalog",
    ]


def test_client_encoding_is_the_sessions(connect):
    """A client encoding other than UTF-8 is used for text both ways, by this session alone."""
    latin, other = connect(client_encoding="latin1", autocommit=True), connect(autocommit=True)
    for conn, encoding in ((latin, "iso8859-1"), (other, "utf-8"), (latin, "iso8859-1")):
        assert conn.info.encoding == encoding
        assert conn.execute("select %s, 'ñ', length('ö')", ["ü"]).fetchone() == ("ü", "ñ", 1)
    with pytest.raises(UnicodeEncodeError):
        latin.execute("select %s", ["漢"])


def test_fileno_is_the_socket(connect):
    """A selector waits on the connection until a notification is there."""
    connect.may_pin("LISTEN", "RAW_ACCESS")
    conn, sender = connect(autocommit=True), connect(autocommit=True)
    conn.execute("listen feature_wake")
    with selectors.DefaultSelector() as selector:
        selector.register(conn, selectors.EVENT_READ)
        assert selector.select(timeout=0) == []
        sender.execute("notify feature_wake")
        assert selector.select(timeout=SECONDS)
    assert next(conn.notifies(timeout=SECONDS)).channel == "feature_wake"


def test_raw_access_works_and_pins(connect):
    """Status is read from `conn.pgconn` freely; running statements on it works and pins the session."""
    conn = connect(autocommit=True)
    assert (conn.pgconn.status, conn.pgconn.transaction_status) == (ConnStatus.OK, IDLE)
    if connect.proxy:
        assert conn.rdsproxy.pin_reasons == ()
    connect.may_pin("RAW_ACCESS")
    assert conn.pgconn.exec_(b"select 'raw'").get_value(0, 0) == b"raw"
    if connect.proxy:
        assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["RAW_ACCESS"]


# -- the object


def test_it_is_a_psycopg_connection(connect):
    """isinstance, hash, equality and weak references are those of the driver's connection."""
    conn, other = connect(), connect()
    assert isinstance(conn, psycopg.Connection)
    assert (conn == conn, conn == other, {conn: 1}.get(conn), len({conn, other})) == (True, False, 1, 2)
    assert weakref.ref(conn)() is conn
    assert conn.connection is conn
    assert psycopg.Connection.OperationalError is conn.OperationalError


@pytest.mark.parametrize("state", ["idle", "transaction", "failed", "closed"])
def test_repr_tells_the_state(same, state):
    """repr names status, host and database as the driver's does."""

    def story(conn):
        bring_to(state, conn)
        return re.sub(r"^<\S+ | at 0x\w+", "", repr(conn))

    states = {"idle": "[IDLE] (", "transaction": "[INTRANS] (", "failed": "[INERROR] (", "closed": "[BAD]"}
    assert same(story).startswith(states[state])


def test_dir_is_the_drivers_and_one_name_more(same):
    """Public names are the driver's; the one we add is `rdsproxy`."""
    private, multiplexed = (kind() for kind in same.kinds)
    public = [{name for name in dir(conn) if not name.startswith("_")} for conn in (private, multiplexed)]
    assert public[1] - public[0] == {"rdsproxy"}
    assert set(dir(private)) <= set(dir(multiplexed))


def test_attributes_of_ones_own_can_be_set(connect):
    """Users hang things on connections; they stay there."""
    conn = connect()
    conn.mine = {"a": 1}
    conn.execute("select 1")
    conn.commit()
    assert conn.mine == {"a": 1}


def test_connect_takes_the_drivers_arguments(connect):
    """row_factory, cursor_factory, prepare_threshold and context shape the session."""
    conn = connect(row_factory=rows.dict_row, cursor_factory=psycopg.ClientCursor, prepare_threshold=None)
    assert (conn.row_factory, conn.cursor_factory) == (rows.dict_row, psycopg.ClientCursor)
    assert conn.server_cursor_factory is psycopg.ServerCursor
    assert conn.prepare_threshold is None
    assert conn.execute("select %s as n", [1]).fetchone() == {"n": 1}


@pytest.mark.parametrize(
    "keywords",
    [
        {"colour": "red"},
        {"options": "-c nonsense=1"},
        {"client_encoding": "nonsense"},
        {"dbname": "nonexistent"},
    ],
    ids=["unknown", "options", "encoding", "dbname"],
)
def test_connect_refuses_what_the_driver_refuses(same, keywords):
    """Arguments that driver or server refuse raise the driver's error from connect()."""
    failures = []
    for connect in same.kinds:
        with pytest.raises(psycopg.Error) as caught:
            connect(**keywords).close()
        failures.append((caught.type, caught.value.sqlstate, str(caught.value)))
    assert failures[0] == failures[1]


@pytest.mark.parametrize("connect", ["multiplexed"], indirect=True)
def test_a_pin_by_hand_keeps_the_backend(connect, rival):
    """Between pin() and unpin() a session stays on one backend; afterwards it moves on."""
    conn = connect(autocommit=True)
    conn.rdsproxy.pin("the test wants it")
    assert (conn.rdsproxy.pinned, [reason.name for reason in conn.rdsproxy.pin_reasons]) == (True, ["MANUAL"])
    pids = set()
    for _ in range(3):
        pids.update(conn.execute("select pg_backend_pid()").fetchone())
        rival()
    assert len(pids) == 1
    assert connect.proxy.stats().database_connections_currently_session_pinned == 1
    conn.rdsproxy.unpin()
    assert (conn.rdsproxy.pinned, conn.rdsproxy.pin_reasons) == (False, ())
    for _ in range(3):
        conn.execute("select 1")
        rival(conn)


# -- close


def test_close_is_idempotent(connect):
    """close() may be called again, and says closed but not broken."""
    conn = connect()
    assert (conn.closed, conn.broken) == (False, False)
    for _ in range(3):
        conn.close()
        assert (conn.closed, conn.broken) == (True, False)


AFTER_CLOSE = {
    "execute": lambda conn: conn.execute("select 1"),
    "cursor": lambda conn: conn.cursor(),
    "named cursor": lambda conn: conn.cursor("late"),
    "commit": lambda conn: conn.commit(),
    "rollback": lambda conn: conn.rollback(),
    "transaction": lambda conn: conn.transaction().__enter__(),
    "pipeline": lambda conn: conn.pipeline().__enter__(),
    "notifies": lambda conn: list(conn.notifies(timeout=0)),
    "cancel": lambda conn: conn.cancel(),
    "cancel_safe": lambda conn: conn.cancel_safe(),
    "fileno": lambda conn: conn.fileno(),
    "set_autocommit": lambda conn: conn.set_autocommit(True),
    "set_isolation_level": lambda conn: conn.set_isolation_level(1),
    "tpc_begin": lambda conn: conn.tpc_begin("late"),
    "tpc_recover": lambda conn: conn.tpc_recover(),
    "xid": lambda conn: conn.xid(1, "a", "b"),
    "adapters": lambda conn: type(conn.adapters),
    "autocommit": lambda conn: conn.autocommit,
    "fetch type": lambda conn: TypeInfo.fetch(conn, "int4"),
    "composed": lambda conn: psycopg.sql.Literal("it's").as_string(conn),
    "identifier": lambda conn: psycopg.sql.Identifier("a").as_string(conn),
    "with": lambda conn: conn.__exit__(None, None, None),
}


def test_use_after_close(same):
    """A closed connection answers each call as the driver's closed connection does."""

    def story(conn):
        conn.execute("select 1")
        conn.close()
        return {name: told(lambda: use(conn)) for name, use in AFTER_CLOSE.items()}  # noqa: B023

    answers = same(story)
    for name in ("execute", "cursor", "transaction", "pipeline", "tpc_begin"):
        assert answers[name] == (psycopg.OperationalError, "the connection is closed")


def test_cursors_of_a_closed_connection(same):
    """A cursor whose connection was closed keeps its rows and refuses statements."""

    def story(conn):
        cur = conn.execute("select 1")
        conn.close()
        answers = [cur.closed, cur.fetchall()]
        with pytest.raises(psycopg.OperationalError) as caught:
            cur.execute("select 2")
        return [*answers, str(caught.value)]

    assert same(story) == [False, [(1,)], "the connection is closed"]


def test_an_open_connection_warns_when_it_is_deleted(connect):
    """A connection that nobody closed is reported as the driver reports it, and its backend is freed."""
    connect().execute("select 1")
    with pytest.warns(ResourceWarning, match="deleted while still open"):
        connect.opened.clear() or gc.collect()
    assert connect(autocommit=True).execute("select 1").fetchone() == (1,)


# -- errors

FAILURES = [
    "select 1/0",
    "select * from nowhere",
    "select nothing from feature_items",
    "selec 1",
    "select 'x'::int",
    "insert into feature_items values (null, 'a')",
    "insert into feature_items values (1, 'a'), (1, 'b')",
    "insert into feature_children values (77); set constraints all immediate",
    "select 'off'::feature_mood",
    "select nowhere(1)",
    "select 1; select 1/0; select 2",
    "drop table nowhere",
]
DIAGNOSTICS = [name for name in dir(psycopg.errors.Diagnostic) if not name.startswith("_")]


@pytest.mark.parametrize("statement", FAILURES)
def test_errors_are_the_drivers(same, statement):
    """An error has the driver's class, sqlstate, message and diagnostics, and survives pickling."""
    same.may_pin("UNKNOWN_ROUTINE")  # an unknown function that fails may have done something before

    def fail(conn):
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(statement)
        error = caught.value
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.diag.sqlstate) == (type(error), str(error), error.diag.sqlstate)
        details = {name: getattr(error.diag, name) for name in DIAGNOSTICS}
        return type(error), error.sqlstate, str(error), details, conn.info.transaction_status

    def story(conn):
        in_transaction = fail(conn)
        conn.rollback()
        conn.autocommit = True
        return in_transaction, fail(conn)

    (kind, *_, status), (_, *_, autocommit_status) = same(story)
    assert (status, autocommit_status) == (TransactionStatus.INERROR, IDLE)
    assert kind in vars(psycopg.errors).values()


def test_the_session_goes_on_after_an_error(connect):
    """Under autocommit an error concerns its statement alone."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    for _ in range(3):
        with pytest.raises(errors.DivisionByZero):
            cur.execute("select 1/0")
        assert cur.execute("select 1").fetchone() == (1,)


# -- notices


def test_notices_reach_the_handlers_of_their_session(connect):
    """A notice goes to the handlers of the session that caused it, until they are removed."""
    first, second = connect(autocommit=True), connect(autocommit=True)
    heard: dict[str, list[Any]] = {"first": [], "second": []}
    for name, conn in (("first", first), ("second", second)):
        conn.add_notice_handler(lambda diag, name=name: heard[name].append((diag.severity, diag.message_primary)))
    ask = "create table if not exists feature_items ()"
    first.execute(ask)
    assert heard == {"first": [("NOTICE", 'relation "feature_items" already exists, skipping')], "second": []}
    second.execute(ask)
    first.execute(ask)
    assert (len(heard["first"]), len(heard["second"])) == (2, 1)


def test_notice_handlers_can_be_removed(same):
    """A removed handler is not called, and removing one that is not there is the driver's error."""

    def story(conn):
        heard = []
        conn.add_notice_handler(heard.append)
        conn.remove_notice_handler(heard.append)
        conn.execute("create table if not exists feature_items ()")
        assert heard == []
        conn.remove_notice_handler(heard.append)

    assert same(story)[0] is ValueError


def test_a_notice_handler_that_fails_is_logged(connect, caplog):
    """An exception in a handler does not disturb the statement."""
    conn = connect(autocommit=True)
    conn.add_notice_handler(lambda diag: 1 / 0)
    with caplog.at_level(logging.ERROR, "psycopg"):
        cur = conn.execute("create table if not exists feature_items ()")
    assert cur.statusmessage == "CREATE TABLE"
    assert "error processing notice callback" in caplog.text


# -- notifications


def send(connect: Any, *payloads: str) -> list[psycopg.Notify]:
    """Notify from another session; what the listener should hear."""
    sender = connect(autocommit=True)
    ask = "select 'feature_news', %s, pg_backend_pid(), pg_notify('feature_news', %s)"
    return [psycopg.Notify(*sender.execute(ask, [text, text]).fetchone()[:3]) for text in payloads]


@pytest.fixture
def listener(connect):
    connect.may_pin("LISTEN")
    conn = connect(autocommit=True)
    conn.execute("listen feature_news")
    return conn


def test_notifies_yields_what_was_sent(connect, listener):
    """notifies() yields channel, payload and the sender's pid, and stops after the number asked for."""
    sent = send(connect, "one", "two")
    assert list(listener.notifies(timeout=SECONDS, stop_after=2)) == sent


def test_notifies_ends_at_its_timeout(connect, listener):
    """With nothing to hear notifies() ends when its time is over, at once for 0."""
    assert list(listener.notifies(timeout=0)) == []
    assert list(listener.notifies(timeout=0.05)) == []
    assert listener.execute("select 1").fetchone() == (1,)


def test_notifies_without_listening_hears_nothing(connect):
    """A session that listens to nothing hears nothing, and is not pinned by asking."""
    conn = connect(autocommit=True)
    assert list(conn.notifies(timeout=0.02)) == []
    assert conn.execute("select 1").fetchone() == (1,)


def test_notifies_that_came_with_a_statement_are_kept(connect, listener):
    """What arrived while statements ran is in the next notifies()."""
    send(connect, "early")
    listener.execute("select 1")
    send(connect, "late")
    heard = [note.payload for note in listener.notifies(timeout=SECONDS, stop_after=2)]
    heard += [note.payload for note in listener.notifies(timeout=0)]
    assert heard == ["early", "late"]


def test_a_closed_notifies_generator_frees_the_session(connect, listener):
    """After closing the generator statements run again, and a later one hears the rest."""
    send(connect, "one")
    notes = listener.notifies(timeout=SECONDS)
    assert next(notes).payload == "one"
    notes.close()
    assert listener.execute("select 1").fetchone() == (1,)
    send(connect, "two")
    assert next(listener.notifies(timeout=SECONDS)).payload == "two"


def test_notify_handlers_are_called(connect, listener):
    """A handler hears notifications as statements run, until it is removed."""
    heard: list[psycopg.Notify] = []
    listener.add_notify_handler(heard.append)
    sent = send(connect, "one")
    listener.execute("select 1")
    assert heard == sent
    listener.remove_notify_handler(heard.append)
    send(connect, "two")
    listener.execute("select 1")
    assert len(heard) == 1


def test_notifies_with_handlers_warns(connect, listener):
    """Both ways of hearing at once are warned about, as by the driver."""
    listener.add_notify_handler(print)
    with pytest.warns(RuntimeWarning, match="notifies"):
        assert list(listener.notifies(timeout=0)) == []


def test_unlisten_ends_the_listening(connect):
    """After UNLISTEN nothing is heard."""
    connect.may_pin("LISTEN")
    conn = connect(autocommit=True)
    conn.execute("listen feature_news")
    conn.execute("unlisten feature_news")
    send(connect, "one")
    assert list(conn.notifies(timeout=0)) == []


def test_only_the_listener_hears(connect, listener):
    """A notification goes to the session that listens, and to no other."""
    other = connect(autocommit=True)
    heard: list[psycopg.Notify] = []
    other.add_notify_handler(heard.append)
    send(connect, "one")
    other.execute("select 1")
    assert next(listener.notifies(timeout=SECONDS)).payload == "one"
    assert heard == []


# -- cancelling


@pytest.mark.parametrize("cancel", ["cancel", "cancel_safe"])
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_cancel_reaches_the_statement_in_flight(connect, running, cancel, autocommit):
    """A cancel from another thread ends the running statement with QueryCanceled, and the session goes on."""
    conn = connect(autocommit=autocommit)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(conn.execute, f"select pg_sleep(60) /* {id(conn)} */")
        running(str(id(conn)))
        getattr(conn, cancel)()
        with pytest.raises(errors.QueryCanceled):
            future.result(SECONDS)
    conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("cancel", ["cancel", "cancel_safe"])
def test_cancel_with_nothing_in_flight(connect, cancel):
    """Cancelling an idle session does nothing, in a transaction and outside."""
    conn = connect()
    getattr(conn, cancel)()
    assert conn.execute("select 1").fetchone() == (1,)
    conn.rollback()
    getattr(conn, cancel)()
    assert conn.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("cancel", ["cancel", "cancel_safe"])
def test_cancel_never_reaches_another_session(connect, running, cancel):
    """A session that cancels after its own statement leaves the next user of the backend in peace."""
    first, second = connect(autocommit=True), connect(autocommit=True)
    first.execute("select 1")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(second.execute, f"select pg_sleep(0.15), 'whole' /* {id(second)} */")
        running(str(id(second)))
        for _ in range(5):
            getattr(first, cancel)()
        assert future.result(SECONDS).fetchone()[1] == "whole"


def test_cancel_ends_a_stream(connect):
    """A cancel reaches a stream that is being read."""
    conn = connect(autocommit=True)
    stream = conn.cursor().stream("select n, repeat('x', 999) from generate_series(1, 1000000) as n")
    next(stream)
    conn.cancel()
    with pytest.raises(errors.QueryCanceled):
        list(stream)
    assert conn.execute("select 1").fetchone() == (1,)


# -- types of the database


class Mood(Enum):
    """The labels of feature_mood."""

    glad = "glad"
    sad = "sad"


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize(
    ("info", "name"),
    [
        (TypeInfo, "feature_mood"),
        (EnumInfo, "feature_mood"),
        (CompositeInfo, "feature_pair"),
        (RangeInfo, "feature_span"),
        (MultirangeInfo, "feature_multispan"),
        (TypeInfo, "nonexistent"),
    ],
)
def test_type_information_is_fetched(same, info, name, autocommit):
    """`TypeInfo.fetch` and its kin tell what the server knows, and leave no transaction open."""

    def story(conn):
        found = info.fetch(conn, name)
        assert conn.info.transaction_status == IDLE
        return type(found), found and (found.name, found.oid, found.array_oid, found.regtype, found.delimiter)

    assert same(story, autocommit=autocommit)[0] is (type(None) if name == "nonexistent" else info)


def test_registered_types_belong_to_the_connection(connect):
    """Enum, composite, range and multirange registered on one connection adapt both ways, there only."""
    first, second = connect(autocommit=True), connect(autocommit=True)
    register_enum(EnumInfo.fetch(first, "feature_mood"), first, Mood)
    pair = CompositeInfo.fetch(first, "feature_pair")
    register_composite(pair, first)
    register_range(RangeInfo.fetch(first, "feature_span"), first)
    register_multirange(MultirangeInfo.fetch(first, "feature_multispan"), first)
    values = [Mood.sad, pair.python_type(1, "a"), Range("a", "c"), Multirange([Range("a", "c")])]
    ask = "select %s::feature_mood, %s::feature_pair, %s::feature_span, %s::feature_multispan"
    assert first.execute(ask, values).fetchone() == tuple(values)
    assert second.execute("select 'sad'::feature_mood, row(1, 'a')::feature_pair").fetchone() == (
        "sad",
        "(1,a)",
    )
    TypeInfo.fetch(first, "feature_pair").register(second)


# -- threads


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_threads_share_a_connection(connect, autocommit):
    """Threads that use one connection take turns, and each gets its own results."""
    conn = connect(autocommit=autocommit)

    def work(worker: int) -> list[tuple[int, int]]:
        cur = conn.cursor()
        return [cur.execute("select %s, %s", [worker, turn]).fetchone() for turn in range(50)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert results == [[(worker, turn) for turn in range(50)] for worker in range(4)]


def test_threads_share_one_transaction(connect, names):
    """What several threads write through one connection is one transaction."""
    conn = connect()

    def put(number: int) -> None:
        conn.execute("insert into feature_items values (%s, 'x')", [number])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(20)))
    assert names() == []
    conn.commit()
    assert len(names()) == 20


def test_threads_with_connections_of_their_own(connect):
    """Many threads work at once, each with its own connection, over few backends."""
    barrier = threading.Barrier(6)

    def work(number: int) -> int:
        with connect() as conn:
            barrier.wait(SECONDS)
            for turn in range(10):
                conn.execute("insert into feature_items values (%s, 'x')", [number * 100 + turn])
                conn.commit()
        return number

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == list(range(6))
    assert connect().execute("select count(*) from feature_items").fetchone() == (60,)
