"""What the server tells about a session's last statement: right, or DiagnosticsLost, and never another session's."""

from __future__ import annotations

import contextlib
import threading

import pymysql
import pytest
from pymysql.cursors import SSCursor

import rdsproxy_lib
from rdsproxy_lib import errors
from tests.features_mysql.conftest import Sessions

LOST = "lost"


def ask(conn, text):
    """The rows of a question, or that they cannot be told."""
    refused = None
    try:
        with conn.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall()
    except errors.DiagnosticsLost as error:
        refused = error
    assert isinstance(refused, pymysql.err.OperationalError)
    assert refused.args[0] == 1105
    assert not conn.rdsproxy.pinned
    return LOST


QUESTIONS = {
    "last_insert_id": "select last_insert_id()",
    "@@last_insert_id": "select @@last_insert_id",
    "@@identity": "select @@identity",
    "row_count": "select row_count()",
    "found_rows": "select found_rows()",
    "@@warning_count": "select @@warning_count",
    "@@error_count": "select @@session.error_count",
    "show count warnings": "show count(*) warnings",
    "show count errors": "show count(*) errors",
    "show warnings": "show warnings",
    "show errors": "show errors",
    "show warnings limit": "show warnings limit 1",
    "several": "select row_count(), last_insert_id(), found_rows()",
    "in a where": "select 1 from dual where last_insert_id() = 2",
    "comment": "select /* x */ last_insert_id ()",
}
BEFORE = {
    "nothing": None,
    "select": "select 1 union select 2",
    "select with a table": "select * from feature_numbered",
    "insert": "insert into feature_numbered (name) values ('a'), ('b')",
    "insert an id": "insert into feature_numbered values (500, 'a')",
    "insert ignore": "insert ignore into feature_numbered values (500, 'a'), (500, 'b')",
    "update": "update feature_numbered set name = 'c'",
    "delete": "delete from feature_numbered",
    "do": "do 0",
    "set an id": "do last_insert_id(77)",
    "select an id": "select last_insert_id(78)",
    "a warning": "select cast('x' as signed)",
    "an error": "select * from feature_missing",
    "a syntax error": "selec",
    "ddl": "drop table if exists feature_missing",
    "begin": "begin",
    "savepoint": "savepoint s1",
    "replace": "replace into feature_numbered (name) values ('z')",
    "limit": "select * from (select 1 a union select 2 union select 3) t limit 1",
    "commit": "commit",
    "on duplicate": "insert into feature_numbered values (500, 'a') on duplicate key update name = 'x'",
}


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("before", BEFORE)
def test_each_question_after_each_statement(features, clean, numbered, root, autocommit, before):
    """Each question after each kind of statement has a private connection's answer, or is refused."""
    kinds = [Sessions(features, kind) for kind in ("private", "multiplexed", "rivals")]
    try:
        for name, question in QUESTIONS.items():
            answers = []
            for connect in kinds:
                if before in ("insert", "insert ignore", "replace", "on duplicate"):
                    clean()  # ids count from 1
                else:
                    root("delete from feature_numbered")
                conn = connect(autocommit=autocommit)
                if connect.is_private:
                    private = conn
                if BEFORE[before] is not None:
                    with contextlib.suppress(pymysql.err.MySQLError):
                        conn.cursor().execute(BEFORE[before])
                answers.append(ask(conn, question))
                if not connect.is_private:
                    assert not conn.rdsproxy.pinned
                conn.rollback()
                conn.close()
            assert not private.open
            for answer in answers[1:]:
                assert answer in (answers[0], LOST), (name, answers)
    finally:
        for connect in kinds:
            connect.finish()


@pytest.mark.parametrize("autocommit", [True, False])
def test_show_warnings_method(same, rows, autocommit):
    """show_warnings() after statements with warnings, with errors, and without."""

    def story(conn):
        found = []
        for text in (
            "select cast('x' as signed)",
            "drop table if exists feature_none",
            "selec",
            "select * from feature_none",
            "insert into feature_items values (1, 'a'), (1, 'b')",
            "select count(*) from feature_items",  # of a table: see docs/differences.md on MariaDB's list of warnings
            "insert into feature_items values (7, 'a')",
        ):
            with contextlib.suppress(pymysql.err.MySQLError):
                rows(conn, text)
            found.append((text, conn.show_warnings(), conn.show_warnings()))
        conn.commit()
        return found

    same(story, autocommit=autocommit)


def test_show_warnings_of_a_new_session(connect):
    """show_warnings() of a session that has done nothing tells nothing."""
    for _ in range(3):
        assert connect().show_warnings() in ((), [])


def test_show_warnings_after_commit(same, rows):
    """show_warnings() after commit() and rollback()."""

    def story(conn):
        found = []
        for end in (conn.commit, conn.rollback):
            rows(conn, "insert ignore into feature_items values (1, 'a'), (1, 'b')")
            end()
            found.append(conn.show_warnings())
        return found

    same(story)


@pytest.mark.parametrize("act", ["commit", "rollback", "autocommit", "ping", "begin", "get_autocommit", "select_db"])
def test_counts_after_silent_calls(same, rows, act):
    """insert_id(), affected_rows() and show_warnings() after a method that may have had nothing to send."""

    def story(conn):
        found = []
        arguments = {"autocommit": (not conn.get_autocommit(),), "select_db": ("test_features",)}.get(act, ())
        for text in (
            "select cast('x' as signed)",
            "select count(*) from feature_items",
            "insert ignore into feature_items values (1, 'a'), (1, 'b')",
        ):
            for look in (conn.insert_id, conn.affected_rows, conn.show_warnings):
                rows(conn, text)
                getattr(conn, act)(*arguments)
                found.append((text, look.__name__, look()))
        conn.rollback()
        return found

    same(story)
    same(story, autocommit=True)


def test_show_warnings_with_rivals_between(shared, rows):
    """The warnings of each of three sessions are its own, whoever ran since."""
    conns = [shared(autocommit=True) for _ in range(3)]
    for _ in range(3):
        for number, conn in enumerate(conns):
            rows(conn, f"select cast('mine{number}' as signed)")
        for number, conn in enumerate(conns):
            ((level, code, text),) = conn.show_warnings()
            assert (level, code) == ("Warning", 1292)
            assert f"mine{number}" in text


def test_errors_of_others_are_not_told(shared, rows):
    """After another session's error, SHOW ERRORS of this one tells nothing of it."""
    one, two = shared(autocommit=True), shared(autocommit=True)
    rows(two, "select 1")
    with pytest.raises(pymysql.err.ProgrammingError):
        rows(one, "select * from feature_secret")
    for question in (
        "show errors",
        "show warnings",
        "show count(*) errors",
        "select @@error_count",
        "show errors limit 5",
    ):
        answer = ask(two, question)
        assert "secret" not in str(answer)
        assert answer in ((), LOST, ((0,),)), question


def test_last_insert_id_in_a_transaction(shared, numbered, rows):
    """Within a transaction LAST_INSERT_ID() is what this session inserted; the first question of all may be refused."""
    conns = [shared(), shared()]
    found = []
    for _ in range(4):
        for conn in conns:
            with conn.cursor() as cursor:
                cursor.execute("insert into feature_numbered (name) values ('a')")
                mine = cursor.lastrowid
                answer = ask(conn, "select last_insert_id()")
            assert answer == ((mine,),) or (answer == LOST and not found)
            found.append(answer)
            conn.commit()


def test_last_insert_id_after_commit(shared, numbered, rows):
    """After commit LAST_INSERT_ID() is still this session's last, or is refused; from the second time on it is told."""
    conns = [shared(), shared()]
    told = 0
    for _ in range(5):
        mine = {}
        for conn in conns:
            with conn.cursor() as cursor:
                cursor.execute("insert into feature_numbered (name) values ('a')")
                mine[conn] = cursor.lastrowid
            conn.commit()
        for conn in conns:
            answer = ask(conn, "select last_insert_id()")
            assert answer in (LOST, ((mine[conn],),))
            told += answer != LOST
            conn.rollback()
    assert told >= 6


def test_last_insert_id_of_a_new_session_is_zero(shared, numbered, rows):
    """A session that has not inserted is told 0, or nothing."""
    writer = shared(autocommit=True)
    for _ in range(4):
        rows(writer, "insert into feature_numbered (name) values ('a')")
        assert ask(shared(autocommit=True), "select last_insert_id()") in (LOST, ((0,),))


def test_last_insert_id_as_a_value(shared, numbered, rows, root):
    """INSERT … VALUES (LAST_INSERT_ID()) under autocommit uses this session's, or is refused."""
    parent, other = shared(autocommit=True), shared(autocommit=True)
    for _ in range(4):
        with parent.cursor() as cursor:
            cursor.execute("insert into feature_numbered (name) values ('parent')")
            mine = cursor.lastrowid
        rows(other, "insert into feature_numbered (name) values ('other')")
        if ask(parent, "insert into feature_items values (last_insert_id(), 'child')") != LOST:
            assert root("select max(id) from feature_items") == ((mine,),)


def test_lastrowid_is_always_told(shared, numbered, rows):
    """cursor.lastrowid and insert_id() need no question, and are the session's own."""
    conns = [shared(autocommit=True) for _ in range(4)]
    for _ in range(3):
        for conn in conns:
            with conn.cursor() as cursor:
                cursor.execute("insert into feature_numbered (name) values (%s)", (str(id(conn)),))
                number = cursor.lastrowid
                assert conn.insert_id() == number
            assert rows(conn, "select name from feature_numbered where id = %s", (number,)) == ((str(id(conn)),),)


@pytest.mark.parametrize("question", ["select row_count()", "select found_rows()"])
def test_counts_inside_a_transaction(same, rows, question):
    """ROW_COUNT() and FOUND_ROWS() inside a transaction are always told."""

    def story(conn):
        found = []
        for text in (
            "insert into feature_items values (1, 'a'), (2, 'b'), (3, 'c')",
            "update feature_items set name = 'x' where id > 1",
            "select * from feature_items",
            "select * from feature_items limit 1",
            "delete from feature_items",
        ):
            if text.startswith("select") or "row_count" in question:
                rows(conn, text)
                found.append(rows(conn, question))
            else:
                rows(conn, text)
        return found

    same(story)


@pytest.mark.filterwarnings("ignore")
def test_sql_calc_found_rows(connect, rows):
    """SQL_CALC_FOUND_ROWS pins, so that FOUND_ROWS() afterwards is told."""
    connect.may_pin("FOUND_ROWS")
    conn, other = connect(autocommit=True), connect(autocommit=True)
    rows(conn, "insert into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
    for _ in range(2):
        assert len(rows(conn, "select sql_calc_found_rows * from feature_items limit 1")) == 1
        rows(other, "select 1")
        assert rows(conn, "select found_rows()") == ((3,),)


def test_found_rows_after_a_stream(same, rows):
    """FOUND_ROWS() after an unbuffered SELECT that was read to its end."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a'), (2, 'b')")
        with conn.cursor(SSCursor) as cursor:
            cursor.execute("select * from feature_items")
            cursor.fetchall()
        return rows(conn, "select found_rows()")

    same(story)


def test_row_count_of_another(shared, rows):
    """ROW_COUNT() under autocommit, with another session's statement between, is this session's or refused."""
    one, two = shared(autocommit=True), shared(autocommit=True)
    for _number in range(5):
        rows(one, "replace into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
        rows(two, "delete from feature_items where id = 1")
        assert ask(one, "select row_count()") in (LOST, ((3,),), ((5,),), ((6,),))
        rows(one, "do 0")
        rows(two, "replace into feature_items values (1, 'x')")
        assert ask(one, "select row_count()") in (LOST, ((0,),))


def test_get_diagnostics(connect, rows):
    """GET DIAGNOSTICS needs a user variable, pins, and tells of this session's last statement, or is refused."""
    connect.may_pin("USER_VARIABLE")
    conn, other = connect(), connect()
    rows(conn, "insert into feature_items values (1, 'a'), (2, 'b')")
    rows(other, "insert into feature_items values (3, 'b')")
    rows(conn, "get diagnostics @n = row_count")
    assert rows(conn, "select @n") == ((2,),)


@pytest.mark.parametrize("act", ["commit", "rollback", "autocommit", "select_db", "set_character_set"])
def test_row_count_after_silent_calls(shared, rows, act):
    """A call that had nothing to send has ended what ROW_COUNT() told of the statement before."""
    conn = shared(autocommit=True)
    arguments = {"autocommit": (False,), "select_db": ("test_features",), "set_character_set": ("utf8mb4",)}
    rows(conn, "insert into feature_items values (1, 'a'), (2, 'b')")
    getattr(conn, act)(*arguments.get(act, ()))
    assert ask(conn, "select row_count()") in (LOST, ((0,),))


SECRET = "select 'a secret' + 0 from feature_items"


def others_secret(conn, rows):
    """Warnings and a count on the backend that another session is going to have."""
    rows(conn, "insert ignore into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
    rows(conn, SECRET)


@pytest.mark.parametrize("question", [*QUESTIONS.values(), "show warnings", "show errors"])
def test_a_session_pinned_by_hand_is_told_nothing_of_others(features, rows, clean, question):
    """pin() takes a backend on which no statement of this session ran yet."""
    with rdsproxy_lib.Proxy(features.url(), max_connections=1) as proxy:
        other, conn = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        with contextlib.suppress(pymysql.err.MySQLError):
            others_secret(other, rows)
            rows(other, "select * from feature_none")
        with conn.rdsproxy.pin("to ask"):
            try:
                answer = rows(conn, question)
            except errors.DiagnosticsLost:
                answer = LOST
        assert answer in (LOST, (), ((0,),), ((-1,),)), answer
        other.close()
        conn.close()


def test_a_refused_statement_was_not_the_last(features, rows, clean):
    """What was never sent does not make a backend the one that this session's last statement ran on."""
    with rdsproxy_lib.Proxy(features.url(), max_connections=1, pin_policy={"TEMP_TABLE": "error"}) as proxy:
        other, conn = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        rows(conn, "insert into feature_items values (9, 'mine')")
        others_secret(other, rows)
        with pytest.raises(errors.PinRefused):
            rows(conn, "create temporary table feature_refused (a int)")
        assert ask(conn, "select row_count()") == LOST
        assert ask(conn, "select @@warning_count") == LOST
        other.close()
        conn.close()


@pytest.mark.parametrize(
    ("options", "autocommit", "texts"),
    [
        ({}, False, ("update feature_items set id = feature_same(id + 10)",)),
        ({"keep_diagnostics": True}, True, ("update feature_items set id = feature_same(id + 10)",)),
        (
            {"max_connections": 1},
            False,
            ("set transaction isolation level serializable", "update feature_items set id = feature_same(id + 10)"),
        ),
    ],
)
def test_a_count_after_questions_of_ours(features, root, rows, clean, options, autocommit, texts):
    """A routine is looked up, and settings are made again, before the statement: it is the last one all the same."""
    root("drop function if exists feature_same")
    root("create function feature_same(a int) returns int deterministic return a")
    with rdsproxy_lib.Proxy(features.url(), **options) as proxy:
        conn = proxy.connect(autocommit=autocommit)
        rows(conn, "insert into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
        conn.commit()
        for text in texts:
            rows(conn, text)
        assert rows(conn, "select row_count()") == ((3,),)
        conn.rollback()
        conn.close()


def test_found_rows_of_a_lost_statement_hold_nothing(features, rows, kill, eventually, running):
    """A backend that was to be kept for one question and died is not replaced by another that is kept."""
    with rdsproxy_lib.Proxy(features.url(), max_connections=1) as proxy:
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        failures = []

        def work():
            try:
                rows(conn, "select sql_calc_found_rows sleep(20)")
            except pymysql.err.MySQLError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        kill(running("sql_calc_found_rows sleep(20)"))
        thread.join()
        assert failures
        assert rows(conn, "select 1") == ((1,),)
        assert conn.rdsproxy.backend is None
        assert rows(other, "select 2") == ((2,),)
        conn.close()
        other.close()


def test_the_id_and_the_number_of_errors_at_once(shared, rows):
    """What is asked for LAST_INSERT_ID() before a backend is given back has changed what it tells of errors."""
    conn = shared(autocommit=True)
    for _ in range(3):
        for text in (
            "handler feature_none close",
            "execute feature_none",
        ):  # which may have inserted
            with contextlib.suppress(pymysql.err.MySQLError):
                rows(conn, text)
        assert ask(conn, "select @@identity, @@error_count") in (LOST, ((0, 1),))


def test_the_number_of_warnings_of_an_earlier_statement(shared, rows, root):
    """MariaDB keeps it over statements that use no table; here it may be another session's, so it is 0."""
    conn = shared(autocommit=True)
    with contextlib.suppress(pymysql.err.MySQLError):
        rows(conn, "select * from feature_none")
    rows(conn, "do 0")
    assert ask(conn, "select @@error_count") in (LOST, ((0,),))


def test_questions_in_many_threads(shared, numbered):
    """Eight threads that insert and ask at the same time are never told another's id."""
    failures = []

    def work():
        try:
            conn = shared.proxy.connect(autocommit=True)
            for _ in range(15):
                with conn.cursor() as cursor:
                    cursor.execute("insert into feature_numbered (name) values ('a')")
                    mine = cursor.lastrowid
                answer = ask(conn, "select last_insert_id()")
                assert answer in (LOST, ((mine,),))
            conn.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_procedures_that_ask(shared, numbered, rows, root):
    """A procedure that reads LAST_INSERT_ID() gets this session's, on a pinned connection or in its transaction."""
    shared.may_pin("UNKNOWN_ROUTINE")
    root("drop procedure if exists feature_asks")
    root(
        "create procedure feature_asks() begin insert into feature_numbered (name) values ('p');"
        " select last_insert_id(); end"
    )
    conn = shared(autocommit=True)
    with conn.cursor() as cursor:
        cursor.callproc("feature_asks")
        ((number,),) = cursor.fetchall()
    assert root("select name from feature_numbered where id = %s", (number,)) == (("p",),)


def test_warnings_after_executemany(same):
    """show_warnings() after executemany() of several statements is about the last of them."""

    def story(conn):
        with conn.cursor() as cursor:
            cursor.executemany(
                "update feature_items set name = cast(%s as signed) where 1 = cast(%s as signed)",
                [("1", "a"), ("2", "b")],
            )
            return cursor.warning_count, conn.show_warnings()

    same(story)


def test_warnings_of_a_multi_statement(same, rows):
    """show_warnings() after a text of several statements, the first of which warned."""

    def story(conn):
        with conn.cursor() as cursor:
            cursor.execute("select cast('x' as signed); select 1")
            while cursor.nextset():
                pass
        first = conn.show_warnings()
        with conn.cursor() as cursor:
            cursor.execute("select 1; select cast('y' as signed)")
            while cursor.nextset():
                pass
        return first, conn.show_warnings()

    flag = pymysql.constants.CLIENT.MULTI_STATEMENTS
    same(story, client_flag=flag)
    same(story, client_flag=flag, autocommit=True)


def test_warnings_limit_of_a_session(same, rows):
    """With max_error_count = 0 nothing is kept to be told."""
    same.may_pin("SETTING")

    def story(conn):
        rows(conn, "set max_error_count = 0")
        rows(conn, "select cast('x' as signed)")
        return conn.show_warnings()

    same(story)


def test_notes_are_told(same, rows):
    """Notes are warnings too; asking for them leaves the counts of the session as they are with the driver."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
        rows(conn, "drop table if exists feature_none")
        found = [conn.show_warnings(), conn.affected_rows(), conn.insert_id()]
        rows(conn, "insert into feature_items values (4, 'a'), (5, 'b'), (6, 'c')")
        return [*found, conn.show_warnings(), conn.affected_rows(), conn.insert_id()]

    same(story, autocommit=True)
