"""Which reader a session goes to, and which statements go to readers: decisions without a server."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsproxy_lib.engines import mysql_reading, postgresql_reading
from rdsproxy_lib.readers import Candidate, chosen
from rdsproxy_lib.reading import EVERYTHING, Reading, Side, side_of
from rdsproxy_lib.sql import classify, classify_filled
from rdsproxy_lib.topology import Endpoint, Role

A, B, C = (Endpoint(f"db{number}", 5432) for number in (1, 2, 3))


def side(text, *, mysql=False, reads_only=False):
    statement = classify_filled(text) if mysql else classify(text)
    return side_of(statement, text, reads_only=reads_only)


@pytest.mark.parametrize(
    "text",
    [
        "select * from orders where id = %s",
        "with recent as (select * from orders) select count(*), lower('x') from recent",
        "values (1), (2)",
        "table orders",
    ],
)
@pytest.mark.parametrize("mysql", [False, True])
def test_what_only_reads_may_go_to_either_side(text, mysql):
    """One statement with nothing in it that could write."""
    assert side(text, mysql=mysql) is Side.EITHER


@pytest.mark.parametrize(
    "text",
    [
        "insert into orders values (1)",
        "update orders set id = 2",
        "select * from orders for update",
        "select * into copies from orders",
        "with gone as (delete from orders returning id) select id from gone",
        "select nextval('numbers')",
        "select own_function()",
        "select 1; select 2",
        "begin",
        "set timezone to 'UTC'",
        "show timezone",
        "explain analyze select 1",
        "select pg_is_in_recovery()",
        "select * from pg_stat_activity",
        "select txid_current()",
        "select inet_server_addr()",
        "create temp table t (id int)",
        "select pg_advisory_lock(1)",
        "",
    ],
)
def test_what_may_write_or_asks_about_the_server_goes_to_the_writer(text):
    """On PostgreSQL."""
    assert side(text) is Side.WRITER


@pytest.mark.parametrize(
    "text",
    [
        "replace into orders values (1)",
        "select * from orders lock in share mode",
        "select @@server_id",
        "select @a := 1",
        "select row_count()",
        "select last_insert_id()",
        "select * from information_schema.tables",
        "select * from mysql.user",
        "show processlist",
        "select get_lock('a', 1)",
        "select own_function()",
        "select * from orders into outfile 'x'",
    ],
)
def test_what_may_write_or_asks_about_the_server_goes_to_the_writer_mysql(text):
    """On MySQL and MariaDB."""
    assert side(text, mysql=True) is Side.WRITER


@pytest.mark.parametrize("mysql", [False, True])
def test_a_hint_forces_either_side(mysql):
    """A comment at the beginning, or behind the first word; in a string it is none."""
    assert side("/* rdsproxy: writer */ select 1 from t", mysql=mysql) is Side.WRITER
    assert side("SELECT /* RDSPROXY:Writer */ 1 from t", mysql=mysql) is Side.WRITER
    assert side("select /* rdsproxy: reader */ own_function()", mysql=mysql) is Side.READER
    assert side("select '/* rdsproxy: writer */' from t", mysql=mysql) is Side.EITHER
    assert side("select 1 from t /* rdsproxy: writer */", mysql=mysql) is Side.EITHER


@pytest.mark.parametrize("mysql", [False, True])
def test_what_the_writer_refuses_of_a_session_that_is_there_for_want_of_a_reader(mysql):
    """All that does not provably only read, by text and by catalogue, or belongs to such reads."""
    writers, others = object(), object()
    reading = Reading(SimpleNamespace(writers=writers), splits=False, tracks=True)
    reading.suspects = frozenset({"watched"})

    def is_refused(text):
        statement = classify_filled(text) if mysql else classify(text)
        assert not reading.is_refused(statement, others), "a reader has its own word"
        return reading.is_refused(statement, writers)

    for text in ("begin", "commit", "rollback to a", "select 1 from t", "show tables", "begin; select 1; commit"):
        assert not is_refused(text), text
    for text in (
        "insert into t values (1)",
        "begin; insert into t values (1); commit",
        "select * from watched",
        "select own_function()",
        "select 1 from t for update",
        "call p()",
        "do sleep(1)",
        "start transaction; delete from t",
        "commit prepared 'a'",
        "xa commit 'a'",
        "set @a = own_function()",
        "create table t (id int)",
        "copy t from stdin",
    ):
        assert is_refused(text), text
    assert is_refused("begin not atomic insert into t values (1); end") or not mysql, "PostgreSQL has no such thing"
    assert is_refused("show tables where own_function()") or not mysql
    reading.suspects = frozenset({EVERYTHING})
    assert is_refused("select 1 from t")
    assert not is_refused("commit")


def test_a_session_that_reads_only_goes_to_readers_with_all_it_does():
    """Whatever the text says, and where there is none."""
    assert side("insert into t values (1)", reads_only=True) is Side.READER
    assert side_of(None, "", reads_only=True) is Side.READER
    assert side_of(None, "", reads_only=False) is Side.WRITER


def test_a_session_stays_with_its_reader_while_that_is_one():
    """However busy it is; else the one with the least to do."""
    hosts = [Candidate(A, Role.READ_ONLY, 9), Candidate(B, Role.READ_ONLY, 1), Candidate(C, Role.READ_WRITE, 0)]
    assert chosen(hosts, A, 0.0) == A
    assert chosen(hosts, None, 0.0) == B
    assert chosen(hosts, C, 0.0) == B, "the writer is no reader any more"
    assert chosen(hosts[2:], None, 0.0) is None


def test_a_reader_that_was_lost_is_left_alone_for_a_while():
    """By those who stayed with it too."""
    hosts = [Candidate(A, Role.READ_ONLY, 0, rests_until=5.0), Candidate(B, Role.READ_ONLY, 7)]
    assert chosen(hosts, A, 4.9) == B
    assert chosen(hosts, A, 5.0) == A


def test_one_that_was_never_heard_comes_last():
    """And one that does not answer not at all."""
    hosts = [Candidate(A, None, 0), Candidate(B, Role.READ_ONLY, 50), Candidate(C, Role.UNKNOWN, 0)]
    assert chosen(hosts, None, 0.0) == B
    assert chosen([hosts[0], hosts[2]], None, 0.0) == A


candidates = st.lists(
    st.builds(
        Candidate,
        st.sampled_from((A, B, C)),
        st.sampled_from((None, *Role)),
        st.integers(0, 5),
        st.floats(0, 10),
    ),
    unique_by=lambda each: each.endpoint,
)


@given(candidates, st.sampled_from((None, A, B, C)), st.floats(0, 10), st.randoms())
def test_never_the_writer_nor_one_that_rests(hosts, stays_with, now, dice: random.Random):
    """Whoever is chosen is a reader or unheard; nobody is chosen only where there is none."""
    dice.shuffle(hosts)
    found = chosen(hosts, stays_with, now)
    usable = {each.endpoint: each for each in hosts if each.role in (Role.READ_ONLY, None) and now >= each.rests_until}
    assert (found is None) == (not usable)
    if found is not None:
        assert found in usable
        assert found == stays_with or stays_with not in usable
        assert found == stays_with or usable[found].role is not None or all(e.role is None for e in usable.values())


def test_positions_of_postgresql_are_numbers():
    """A timeline, which comes first, and an LSN of two hexadecimal halves."""
    assert postgresql_reading.position_in("0000000A/16/B374D848") == (10, 0x16_B374D848)
    assert postgresql_reading.position_in("00000001/1/0") > postgresql_reading.position_in("00000001/0/FFFFFFFF")
    assert postgresql_reading.position_in("00000002/0/0") > postgresql_reading.position_in("00000001/1/0")


@pytest.mark.parametrize(
    ("answer", "has_reached"),
    [
        (["00000002/0/100"], True),
        (["00000003/1/0"], True),
        (["00000002/0/FF"], False),
        (["00000001/0/FF"], False),
        (["00000001/0/100"], None),
        ([], None),
    ],
)
def test_an_lsn_counts_on_its_own_timeline_or_a_later_one(answer, has_reached):
    """On an older one it may be another transaction's."""
    assert postgresql_reading.has_reached(lambda _: answer, (2, 0x100), 0.0) is has_reached


def test_gtids_are_joined():
    """MySQL's of one source become a range; of MariaDB's the last one of each domain counts."""
    assert mysql_reading.joined("a-b:3-5", "a-b:8") == "a-b:3-8"
    assert mysql_reading.joined("a-b:6", "a-b:6") == "a-b:6-6"
    assert mysql_reading.joined("a-b:1-5:7,c-d:2", "c-d:9") == "a-b:1-5:7,c-d:2-9"
    assert mysql_reading.joined("c-d:2,a-b:1-5:7", "a-b:9") == "c-d:2,a-b:1-5:7,a-b:9"
    assert mysql_reading.joined("a-b:1", "c-d:1,c-d:4") == "a-b:1,c-d:1-4"
    assert mysql_reading.joined("0-1-5", "0-1-6") == "0-1-6"
    assert mysql_reading.joined("0-1-5,1-1-2", "0-2-6") == "0-2-6,1-1-2"
    assert mysql_reading.joined("a:1," * 300, "b:2") is None, "too long: the writer is asked for all of its own"


def test_only_gtids_get_into_a_question():
    """Anything else is no position: it stands in a text of ours."""
    asked = []

    def ask(text):
        asked.append(text)
        return ((0,),)

    assert mysql_reading.has_reached(ask, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n aa:7", 0.1, "mysql") is True
    assert mysql_reading.has_reached(ask, "1') or sleep(9); --", 0.1, "mysql") is None
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("position", "there", "has_it"),
    [
        ("0-2-51", "0-2-51", True),
        ("0-2-51", "0-2-90", True),
        ("0-2-51", "0-1-90", False),
        ("0-1-50-2", "0-1-50", True),
        ("0-1-50-2", "0-2-51", True),
        ("0-1-50-2", "0-1-80", False),
        ("0-2-51,1-1-9-2", "0-2-51,1-1-9", True),
        ("0-2-51,1-1-9-2", "0-2-51", False),
        ("0-2-51", "", False),
        ("0-2-51", "0-22-90", False),
    ],
)
def test_a_replica_that_follows_who_told_the_position(position, there, has_it):
    """By its last transaction: one of the writer before may have the same number, or a higher one."""
    assert mysql_reading.follows(position, there) is has_it


def test_views_that_hide_calls():
    """By themselves, through another view, or where the definition may not be read."""
    views = [
        ("plain", "select `s`.`t`.`id` AS `id` from `s`.`t`"),
        ("builtin", "select lower(`s`.`t`.`name`) AS `n`,count(0) AS `c` from `s`.`t`"),
        ("calling", "select `s`.`f`(`s`.`t`.`id`) AS `x` from `s`.`t`"),
        ("Over", "select `s`.`calling`.`x` AS `x` from `s`.`calling`"),
        ("over_over", "select `s`.`Over`.`x` AS `x` from `s`.`Over`"),
        ("hidden", ""),
        ("with`tick", "select `s`.`f`(1) AS `x`"),
        ("over_tick", "select `s`.`with``tick`.`x` AS `x` from `s`.`with``tick`"),
    ]
    assert mysql_reading.suspects_of(views) == {"calling", "over", "over_over", "hidden", "with`tick", "over_tick"}
