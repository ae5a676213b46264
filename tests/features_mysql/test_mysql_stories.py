"""Random sequences of what a session can do: each step has a private connection's outcome, or is refused."""

from __future__ import annotations

import random
from contextlib import suppress

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor, DictCursor, SSCursor

from rdsproxy_lib import errors
from tests.features_mysql.conftest import Sessions, outcome_of

TEXTS = [
    "insert into feature_items values ({n}, 'a')",
    "insert into feature_items values ({n}, 'a'), ({n}, 'b')",
    "insert ignore into feature_items values ({n}, 'a'), ({n}, 'b')",
    "replace into feature_items values ({n}, 'r')",
    "update feature_items set name = concat(name, '{n}') where id < {n}",
    "delete from feature_items where id = {n}",
    "select * from feature_items order by id",
    "select count(*) from feature_items",
    "select {n}",
    "select * from feature_items where id = {n} for update",
    "begin",
    "start transaction read only",
    "start transaction with consistent snapshot",
    "commit",
    "rollback",
    "commit and chain",
    "rollback and chain",
    "savepoint s{n}",
    "savepoint s1",
    "rollback to s1",
    "release savepoint s1",
    "set autocommit = 0",
    "set autocommit = 1",
    "select @@autocommit",
    "set transaction read only",
    "set transaction isolation level read committed",
    "xa start 'story'",
    "xa end 'story'",
    "xa rollback 'story'",
    "xa commit 'story' one phase",
    "create table if not exists feature_story (a int)",
    "drop table if exists feature_story",
    "truncate table feature_numbered",
    "analyze table feature_items",
    "select cast('x{n}' as signed)",
    "select * from feature_missing",
    "selec {n}",
    "do 0",
    "do sleep(0)",
    "lock tables feature_items write",
    "unlock tables",
    "set @story = {n}",
    "select @story",
    "create temporary table story (a int)",
    "select * from story",
    "drop temporary table story",
    "select {n}; select 2; insert into feature_items values ({n}, 'm')",
    "begin; insert into feature_items values ({n}, 'm'); select 1",
    "commit; select * from feature_missing; select 3",
    "prepare story from 'select 1'",
    "execute story",
    "show warnings",
    "select row_count()",
    "select found_rows()",
    "show count(*) errors",
    "flush tables",
    "with a as (select 1) select * from a",
    "(select 1) union (select 2)",
    "values row({n}), row(2)",
    "/* {n} */ select 1",
    "describe feature_items",
]
METHODS = {
    "commit": lambda conn: conn.commit(),
    "rollback": lambda conn: conn.rollback(),
    "begin": lambda conn: conn.begin(),
    "autocommit on": lambda conn: conn.autocommit(True),
    "autocommit off": lambda conn: conn.autocommit(False),
    "get_autocommit": lambda conn: conn.get_autocommit(),
    "show_warnings": lambda conn: conn.show_warnings(),
    "ping": lambda conn: conn.ping(),
    "insert_id": lambda conn: conn.insert_id(),
    "affected_rows": lambda conn: conn.affected_rows(),
    "open": lambda conn: conn.open,
}
QUESTIONS = ("show warnings", "row_count", "found_rows", "show count", "show_warnings")


def is_lost(kind):
    """Whether it is the class of the error for questions that cannot be answered for certain."""
    return isinstance(kind, type) and issubclass(kind, errors.DiagnosticsLost)


def perform(conn, kind, text):
    """One step: all that it brings."""
    if text in METHODS:
        return METHODS[text](conn)
    found = []
    with conn.cursor(kind) as cursor:
        cursor.execute(text)
        while True:
            found.append((list(cursor.fetchall()), cursor.rowcount, cursor.lastrowid, cursor.warning_count))
            if not cursor.nextset():
                return found


def steps(seed):
    """Thirty steps, of which some were taken more often for being about transactions."""
    chance = random.Random(seed)
    for _ in range(30):
        if chance.random() < 0.3:
            yield Cursor, chance.choice(list(METHODS))
        else:
            pool = TEXTS[:25] if chance.random() < 0.6 else TEXTS
            kind = chance.choice([Cursor, Cursor, DictCursor, SSCursor])
            yield kind, chance.choice(pool).format(n=chance.randrange(1, 6))


@pytest.mark.parametrize("seed", range(40))
def test_random_stories(features, clean, root, seed):
    """The same thirty steps on a private connection and on a multiplexed one with rivals have the same outcomes."""
    autocommit = bool(seed % 2)
    logs = []
    for kind in ("private", "rivals"):
        clean()
        root("drop table if exists feature_story")
        connect = Sessions(features, kind)
        connect.may_pin("USER_VARIABLE", "TEMP_TABLE", "TABLE_LOCK", "PREPARED_STATEMENT", "UNKNOWN_STATEMENT")
        log = []
        try:
            conn = connect(autocommit=autocommit, client_flag=CLIENT.MULTI_STATEMENTS)
            for cursor_class, text in steps(seed):
                log.append((text, outcome_of(perform, conn, cursor_class, text)))
            with suppress(pymysql.err.MySQLError):
                conn.rollback()
            conn.close()
            log.append(("what is left", root("select * from feature_items order by id")))
        finally:
            connect.finish()
        logs.append(log)
    is_blurred = False
    for number, ((text, private), (_, ours)) in enumerate(zip(*logs, strict=True)):
        before = logs[0][max(0, number - 4) : number]
        if ours != private:
            if is_blurred and text in ("insert_id", "affected_rows", "show_warnings"):
                continue  # of a question that was refused
            assert any(word in text for word in QUESTIONS), (before, text, private, ours)
            is_refused = isinstance(ours, tuple) and ours and is_lost(ours[0])
            is_blurred = is_refused
            assert is_refused or (features.is_mariadb and "warnings" in text), (before, text, private, ours)
        elif text not in METHODS:
            is_blurred = False
