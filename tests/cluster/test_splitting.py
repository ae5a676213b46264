"""`read_write_splitting`: reads go to readers, find what their session wrote, and write nothing there."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import psycopg
import psycopg.sql
import pymysql
import pytest
from psycopg.types.composite import CompositeInfo, register_composite

import rdsproxy_lib
from tests.cluster import aws
from tests.cluster.history import run
from tests.cluster.mysql import Cluster as MySQLCluster
from tests.cluster.postgresql import Cluster, until
from tests.servers import APP_DATABASE, APP_USER, SUPERUSER, TcpRelay

pytestmark = pytest.mark.server("postgresql-15")


@pytest.fixture(scope="module")
def replicated():
    """A writer and two standbys, which the tests of this module leave as they are."""
    with Cluster("15", standbys=2) as cluster:
        with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
            conn.execute("create table numbers (number int)")
        yield cluster


@pytest.fixture
def cluster(replicated):
    """The same, with nothing wrong on its network and an empty table."""
    replicated.nodes[0].ask("with gone as (delete from numbers returning 1) select count(*) from gone")
    yield replicated
    for node in replicated.nodes:
        node.relay.stop()
        node.relay.start()
    for node in replicated.nodes[1:]:
        node.ask("select pg_wal_replay_resume() is null")


@pytest.fixture
def proxy(cluster):
    """One that splits."""
    with rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, connection_borrow_timeout=10) as proxy:
        yield proxy


@pytest.fixture
def conn(proxy):
    """A session in autocommit mode."""
    with proxy.connect(autocommit=True) as conn:
        yield conn


def on_readers(proxy):
    """How many statements ran on readers."""
    return sum(pool.statements() for pool in proxy.pools()[1:])


def is_on_reader(proxy, work):
    """Whether some work went to a reader."""
    before = on_readers(proxy)
    work()
    return on_readers(proxy) > before


def reads_there(proxy, work):
    """Some work goes to a reader, as soon as one has what was written."""
    until(lambda: is_on_reader(proxy, work), "a reader is asked")


def pause(cluster):
    """No standby replays anything from now on."""
    for node in cluster.nodes[1:]:
        node.ask("select pg_wal_replay_pause() is null")
        until(lambda node=node: node.ask("select pg_get_wal_replay_pause_state()") == "paused", "it is paused")


def test_reads_go_to_readers_and_everything_else_to_the_writer(proxy, conn):
    """Outside of transactions; inside one all of it goes to the writer."""
    assert not is_on_reader(proxy, lambda: conn.execute("insert into numbers values (1)"))
    reads_there(proxy, lambda: conn.execute("select * from numbers"))
    with conn.transaction():
        assert not is_on_reader(proxy, lambda: conn.execute("select * from numbers"))
    with proxy.connect() as other:
        assert not is_on_reader(proxy, lambda: other.execute("select * from numbers"))


def test_a_session_reads_its_own_writes(proxy, conn):
    """Each of its writes is there in the next read, which readers answer."""
    for number in range(300):
        conn.execute("insert into numbers values (%s)", (number,))
        assert conn.execute("select max(number) from numbers").fetchone() == (number,)
    assert on_readers(proxy) >= 150


def test_standbys_that_are_behind_are_not_waited_for_long(cluster, proxy, conn):
    """The writer answers instead; and readers again when they are there."""
    conn.execute("insert into numbers values (1)")
    pause(cluster)
    conn.execute("insert into numbers values (2)")
    started = time.monotonic()
    for _ in range(20):
        assert conn.execute("select count(*) from numbers").fetchone() == (2,)
    assert time.monotonic() - started < 5
    for node in cluster.nodes[1:]:
        node.ask("select pg_wal_replay_resume() is null")
    reads_there(proxy, lambda: conn.execute("select count(*) from numbers"))


def test_eventual_consistency_does_not_wait(cluster):
    """A reader answers with what it has."""
    with (
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, consistency="eventual") as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        conn.execute("insert into numbers values (1)")
        until(lambda: conn.execute("select count(*) from numbers").fetchone() == (1,), "it is there")
        pause(cluster)
        conn.execute("insert into numbers values (2)")
        assert conn.execute("select count(*) from numbers").fetchone() == (1,)


def test_a_write_whose_answer_was_cut_is_found_as_well(cluster, proxy, conn):
    """OutcomeUnknown: the next read waits for whatever the writer has done."""
    conn.execute("select 1")
    cutter = threading.Timer(0.2, cluster.nodes[0].relay.reset_all)
    cutter.start()
    with pytest.raises(rdsproxy_lib.OutcomeUnknown):
        conn.execute("insert into numbers select 1 from pg_sleep(0.5)")
    cutter.join()
    until(lambda: cluster.nodes[0].ask("select count(*) from numbers") == 1, "the server has done it")
    pause(cluster)
    assert conn.execute("select count(*) from numbers").fetchone() == (1,)


@pytest.mark.parametrize("error", [psycopg.OperationalError("cut"), KeyboardInterrupt()])
def test_a_writer_that_does_not_say_how_far_it_is(cluster, proxy, conn, monkeypatch, error):
    """Its connection broke behind the write, or the question was interrupted: the write is done, and found."""

    def written(backend):
        proxy.engine.hang_up(backend)
        backend.raw.close()
        raise error

    conn.execute("select 1")
    with monkeypatch.context() as patched:
        patched.setattr(proxy.engine, "written", written)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                conn.execute("insert into numbers values (1)")
        else:
            conn.execute("insert into numbers values (1)")
    pause(cluster)
    assert conn.execute("select count(*) from numbers").fetchone() == (1,)
    conn.execute("insert into numbers values (2)")
    assert not conn.rdsproxy.in_transaction


def test_a_write_that_names_the_last_sequence_value_is_found(proxy, conn):
    """It gets its database connection by another way than most."""
    conn.execute("create table parents (id serial, name text)")
    conn.execute("create table children (parent int)")
    try:
        for number in range(1, 20):
            conn.execute("insert into parents (name) values ('x')")
            conn.execute("insert into children select currval('parents_id_seq')")
            assert conn.execute("select count(*) from children").fetchone() == (number,)
        assert not is_on_reader(proxy, lambda: conn.execute("select last_value from parents_id_seq")), (
            "read ahead there"
        )
    finally:
        conn.execute("drop table children, parents")


def test_a_hidden_write_while_no_reader_is_there_is_found(cluster, proxy, conn):
    """What was to be read anywhere went to the writer, and wrote: the next read finds that on a reader."""
    conn.execute(
        "create function write_one() returns bigint language sql as"
        " $$ with new as (insert into numbers values (1) returning 1) select count(*) from new $$"
    )
    conn.execute("create view writing as select write_one()")
    for node in cluster.nodes[1:]:
        node.relay.stop()
    conn.execute("select * from writing")
    conn.execute("select * from writing")
    pause(cluster)
    for node in cluster.nodes[1:]:
        node.relay.start()
    for _ in range(20):
        assert conn.execute("select count(*) from numbers").fetchone() == (2,)
        time.sleep(0.1)
    conn.execute("drop view writing; drop function write_one")


def test_a_reader_that_is_full_keeps_nobody_waiting(cluster):
    """Its own limit, or ours: the writer answers."""
    with (
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, max_connections=1) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        holders = [proxy.connect(autocommit=True) for _ in cluster.nodes[1:]]
        for holder, node in zip(holders, cluster.nodes[1:], strict=True):
            holder._rdsproxy.reading.endpoint = host_of(proxy, node)
            holder.execute("/* rdsproxy: reader */ select pg_advisory_lock(1)")
        started = time.monotonic()
        assert conn.execute("select count(*) from numbers").fetchone() == (0,)
        assert time.monotonic() - started < 3
        for holder in holders:
            holder.close()


def host_of(proxy, node):
    """A node, as the proxy knows it."""
    return next(endpoint for endpoint in proxy.cluster.view.members if str(endpoint) == node.address)


def test_reads_that_fail_cost_no_connections(proxy, conn):
    """The one on the reader is whole, and is given back."""
    conn.execute("select 1")
    before = proxy.stats()
    for _ in range(10):
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select 1 / count(*) from numbers")
    stats = proxy.stats()
    assert stats.database_connections_closed == before.database_connections_closed
    # The writer's; and the other reader's, where the first one had not caught up with what the writer said in between.
    assert stats.database_connections_setup_succeeded - before.database_connections_setup_succeeded <= 2


def test_hints(proxy, conn):
    """A comment says where, whatever the statement is."""
    assert conn.execute("/* rdsproxy: writer */ select pg_is_in_recovery()").fetchone() == (False,)
    assert conn.execute("select /* rdsproxy: reader */ pg_is_in_recovery()").fetchone() == (True,)
    assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,), "what asks about the server: the writer's"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("/* rdsproxy: reader */ insert into numbers values (1)")


@pytest.mark.parametrize("made", [str.encode, psycopg.sql.SQL, lambda text: psycopg.sql.SQL(text).format()])
def test_hints_in_queries_that_are_no_str(proxy, conn, made):
    """Bytes, and what is composed, is read as it is sent."""
    conn.execute("insert into numbers values (1)")
    reads_there(proxy, lambda: conn.execute(made("select * from numbers")))
    assert not is_on_reader(proxy, lambda: conn.execute(made("/* rdsproxy: writer */ select * from numbers")))
    assert conn.execute(made("/* rdsproxy: reader */ select pg_is_in_recovery()")).fetchone() == (True,)


def test_what_is_serializable_goes_to_the_writer_even_if_it_only_reads(proxy):
    """No standby has that isolation level."""
    with proxy.connect() as conn:
        conn.read_only = True
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
        conn.rollback()
        conn.isolation_level = None
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
    with proxy.connect() as conn:
        conn.execute("set session characteristics as transaction isolation level serializable, read only")
        conn.commit()
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)


def test_read_only_moves_a_session_between_transactions(proxy):
    """`conn.read_only`, or the server's own setting: its transactions go to a reader, with what was written before."""
    with proxy.connect() as conn:
        conn.execute("insert into numbers values (1)")
        conn.commit()
        conn.read_only = True
        assert conn.execute("select pg_is_in_recovery(), (select count(*) from numbers)").fetchone() == (True, 1)
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
        conn.commit()
        conn.read_only = False
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
        conn.commit()
    with proxy.connect() as conn:
        conn.execute("set session characteristics as transaction read only")
        conn.commit()
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
        conn.rollback()


def test_settings_go_along(conn):
    """To whichever side: a time zone, and a setting of the application's own."""
    conn.execute("set timezone to 'Etc/GMT+3'")
    conn.execute("select set_config('app.tenant', '42', false)")
    assert conn.execute("select current_setting('TimeZone'), current_setting('app.tenant')").fetchone() == (
        "Etc/GMT+3",
        "42",
    )
    row = conn.execute("/* rdsproxy: reader */ select current_setting('TimeZone'), current_setting('app.tenant')")
    assert row.fetchone() == ("Etc/GMT+3", "42")


def test_a_role_that_standbys_do_not_have_yet(cluster):
    """Where nobody waits for them: the writer answers instead, and the session goes on."""
    pause(cluster)
    with (
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, consistency="eventual") as proxy,
        proxy.connect(autocommit=True) as conn,
        cluster.nodes[0].server.admin() as admin,
    ):
        admin.execute(f"create role later; grant later to {APP_USER}")
        conn.execute("set role later")
        assert conn.execute("select current_user").fetchone() == ("later",)
        for node in cluster.nodes[1:]:
            node.ask("select pg_wal_replay_resume() is null")
        reads_there(proxy, lambda: conn.execute("select current_user"))
        conn.execute("reset role")
        admin.execute("drop role later")


def test_writes_that_no_text_shows(cluster, proxy, conn):
    """Behind a view, a view on a view, a policy, a domain, an operator, a cast, or a name that is a built-in's; also
    where the function keeps quiet about what it could not do."""
    conn.execute("create table seen (what text)")
    conn.execute(
        "create function see(what text) returns boolean language plpgsql as $$ begin"
        " begin insert into seen values (what); exception when others then null; end; return true; end $$"
    )
    conn.execute("create view watched as select number from numbers where see('view')")
    conn.execute("create view rewatched as select number from watched")
    conn.execute("create table guarded (id int)")
    conn.execute("insert into guarded values (1)")
    conn.execute("alter table guarded enable row level security")
    conn.execute("alter table guarded force row level security")
    conn.execute("create policy watching on guarded using (see('policy'))")
    conn.execute("create domain checked as int check (see('domain'))")
    conn.execute("create function lower(numbers) returns boolean language sql as $$ select see('overloaded') $$")
    conn.execute("insert into numbers values (1)")
    try:
        for text in (
            "select * from watched",
            "select * from rewatched",
            "select * from guarded",
            "select 1::checked",
            "select lower(numbers) from numbers",
            "select see('named')",
        ):
            conn.execute(text)
        assert {what for (what,) in conn.execute("/* rdsproxy: writer */ select what from seen")} == {
            "view",
            "policy",
            "domain",
            "overloaded",
            "named",
        }
        reads_there(proxy, lambda: conn.execute("select * from numbers"))
        conn.execute(
            "create function seeing(a int, b int) returns boolean language sql as $$ select see('operator') $$"
        )
        conn.execute(
            "create function step(int, int) returns int language plpgsql as $$ begin"
            " perform see('aggregate'); return $2; end $$"
        )
        conn.execute("create aggregate last_one(int) (sfunc = step, stype = int)")
        conn.execute("create view aggregated as select last_one(number) from numbers")
        conn.execute("create domain rechecked as checked")
        conn.execute("create view converted as select number::rechecked from numbers")
        for text in ("select * from aggregated", "select 1::rechecked", "select * from converted"):
            assert not is_on_reader(proxy, lambda text=text: conn.execute(text)), text
        reads_there(proxy, lambda: conn.execute("select * from numbers"))
        conn.execute("create operator === (function = seeing, leftarg = int, rightarg = int)")
        conn.execute("select 1 === 1")
        assert ("operator",) in conn.execute("/* rdsproxy: writer */ select what from seen").fetchall()
        assert not is_on_reader(proxy, lambda: conn.execute("select * from numbers")), "any operator may be that one"
    finally:
        conn.execute("drop operator if exists === (int, int)")
        conn.execute("drop function if exists seeing")
        conn.execute("drop view if exists converted; drop view if exists aggregated")
        conn.execute(
            "drop aggregate if exists last_one(int); drop function if exists step; drop domain if exists rechecked"
        )
        conn.execute("drop function lower(numbers); drop domain checked; drop table guarded")
        conn.execute("drop view rewatched; drop view watched; drop function see; drop table seen")


SEEING = """
create table seen (what text);
create function see(what text) returns boolean language plpgsql as $$ begin
    begin insert into seen values (what); exception when others then null; end; return true; end $$;
create domain checked as int check (see('domain'));
create type composed as (x checked);
create type nested as (one composed, many composed[]);
create table owning (x checked);
create table owning_many (xs checked[]);
create view viewed as select x from owning;
insert into owning values (1);
insert into owning_many values ('{1}');
create view "ÄRGER İ" as select see('beyond ASCII');
create view "a ""quoted"" one" as select see('quotes');
create view cut_off_behind_63_bytes_abcdefghijabcdefghijabcdefghijabcdefghi as select see('cut');
"""


@pytest.fixture
def seeing(cluster):
    """What calls a function that writes, or keeps quiet about that it could not; a proxy whose readers know all that
    and need not be waited for, and a session."""
    options = {"read_write_splitting": True, "consistency": "eventual", "connection_borrow_timeout": 10}
    with rdsproxy_lib.Proxy(cluster.url(), **options) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("create schema seeing")
        conn.execute("set search_path to seeing, public")
        try:
            conn.execute(SEEING)
            until(lambda: caught_up(cluster), "the readers have it")
            reads_there(proxy, lambda: conn.execute("select * from numbers"))
            yield proxy, conn
        finally:
            conn.execute("drop schema seeing cascade")


def count_of(conn):
    """How often the function was called on the writer."""
    return conn.execute("/* rdsproxy: writer */ select count(*) from seen").fetchone()[0]


@pytest.mark.parametrize(
    "text",
    [
        "select row(1)::composed",
        "select composed '(1)'",
        "values (row(1)::composed)",
        """select '("(1)",)'::nested""",
        """select '{"(1)"}'::composed[]""",
        """select jsonb_populate_record(null::owning, '{"x": 1}')""",
        "select lag(x, 1, '5') over () from owning",
        "select lag(x, 1, '5') over () from viewed",
        "select array_append(xs, '1') from owning_many",
        'select * from "ÄRGER İ"',
        'select * from "a ""quoted"" one"',
        "select * from cut_off_behind_63_bytes_abcdefghijabcdefghijabcdefghijabcdefghi_and_more",
    ],
)
def test_what_is_made_of_a_domain_calls_what_it_calls(seeing, text):
    """Composite types, arrays, tables with such a column, under whatever name."""
    _, conn = seeing
    before = count_of(conn)
    conn.execute(text)
    assert count_of(conn) > before


def test_a_type_that_only_a_parameter_shows(seeing):
    """The driver sends its number: alone, in a list, or by name."""
    proxy, conn = seeing
    info = CompositeInfo.fetch(conn, "composed")
    register_composite(info, conn)
    for text, parameters in (
        ("select %s", [info.python_type(1)]),
        ("select %s", [[info.python_type(1)]]),
        ("select %(one)s", {"one": info.python_type(1), "none": object()}),
    ):
        before = count_of(conn)
        conn.execute(text, parameters)
        assert count_of(conn) > before
    reads_there(proxy, lambda: conn.execute("select * from numbers where number = %s", [1]))
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt"):
        conn.execute("select %s", [object()])
    with pytest.raises(TypeError):
        conn.execute("select %s", 1)


def test_ranges(cluster, seeing):
    """What their elements call, and what the planner does; the cast that the server makes with each ends nothing."""
    proxy, conn = seeing
    conn.execute("create type stretch as range (subtype = checked)")
    conn.execute("create table stretched (x stretch)")
    conn.execute("insert into stretched values ('[1,3)')")
    conn.execute(
        "create function apart(a time, b time) returns float8 language sql immutable as"
        " $$ select extract(epoch from a - b)::float8 $$"
    )
    conn.execute("create type hours as range (subtype = time, subtype_diff = apart)")
    until(lambda: caught_up(cluster), "the readers have it")
    reads_there(proxy, lambda: conn.execute("select * from numbers"))
    for text in ("select '[1,2]'::stretch", "select * from stretched where x && '[1,2]'"):
        before = count_of(conn)
        conn.execute(text)
        assert count_of(conn) > before
    assert not is_on_reader(proxy, lambda: conn.execute("select '[10:00,11:00]'::hours"))


def test_an_index_or_a_partition_that_compares_in_its_own_way(cluster, seeing):
    """Operators that are the server's own may call a function of users then: any statement may."""
    proxy, conn = seeing
    conn.execute(
        "create function ordered(a int, b int) returns int language plpgsql immutable as"
        " $$ begin perform seeing.see('order'); return a - b; end $$"
    )
    with cluster.nodes[0].server.admin(dbname=APP_DATABASE) as admin:
        admin.execute(
            "create operator class seeing.own_order for type int using btree as operator 1 <, operator 2 <=,"
            " operator 3 =, operator 4 >=, operator 5 >, function 1 seeing.ordered(int, int)"
        )
    conn.execute("create table compared (x int) partition by range (x own_order)")
    conn.execute("create table compared_1 partition of compared for values from (1) to (1000)")
    until(lambda: caught_up(cluster), "the readers have it")
    before = count_of(conn)
    conn.execute("select * from compared where x = 5")
    assert count_of(conn) > before
    assert not is_on_reader(proxy, lambda: conn.execute("select * from public.numbers"))


@contextmanager
def blocked(cluster):
    """Whoever asks for policies waits, on every host; gives what ends that."""
    with cluster.nodes[0].server.admin(dbname=APP_DATABASE) as holder:
        holder.execute("begin")
        try:
            holder.execute("lock table pg_catalog.pg_policy in access exclusive mode")
            cluster.nodes[0].ask("select txid_current()")  # a commit, which sends what was logged before
            for node in cluster.nodes[1:]:
                held = "select count(*) from pg_locks where relation = 'pg_policy'::regclass and granted"
                until(lambda node=node, held=held: node.ask(held), "it is locked there")
            yield partial(holder.execute, "rollback")
        finally:
            holder.execute("rollback")


def forget(proxy):
    """What was found in the catalogues is too old."""
    proxy._splitting._suspects.clear()


def test_a_limit_of_time_is_not_for_questions_of_ours(cluster, proxy, conn):
    """The session's own statements have it."""
    conn.execute("set statement_timeout = '300ms'")
    reads_there(proxy, lambda: conn.execute("select * from numbers"))
    before = proxy.stats()
    with blocked(cluster) as release:
        forget(proxy)
        timer = threading.Timer(1, release)
        timer.start()
        assert is_on_reader(proxy, lambda: conn.execute("select * from numbers"))
        timer.join()
    assert proxy.stats().database_connections_closed == before.database_connections_closed
    assert conn.execute("show statement_timeout").fetchone() == ("300ms",)


def test_a_question_of_ours_that_was_cancelled_costs_no_connection(cluster, proxy, conn):
    """The writer answers; for the next statement the reader is what it was."""
    reads_there(proxy, lambda: conn.execute("select * from numbers"))
    before = proxy.stats()
    with blocked(cluster):
        forget(proxy)
        reading = threading.Thread(target=lambda: conn.execute("select * from numbers"))
        reading.start()
        while reading.is_alive():
            for node in cluster.nodes:
                node.ask(
                    "select count(pg_cancel_backend(pid)) from pg_stat_activity"
                    f" where usename = '{APP_USER}' and wait_event_type = 'Lock'"
                )
            reading.join(0.05)
    assert all(standing.rests_until <= time.monotonic() for standing in proxy._splitting._standings.values())
    assert proxy.stats().database_connections_closed == before.database_connections_closed
    reads_there(proxy, lambda: conn.execute("select * from numbers"))


def test_an_encoding_without_all_letters_hides_no_name(seeing):
    """What one session finds in the catalogue is for all."""
    proxy, conn = seeing
    with proxy.connect(autocommit=True) as other:
        other.execute("set client_encoding to 'LATIN1'")
        reads_there(proxy, lambda: other.execute("select * from public.numbers"))
        closed = proxy.stats().database_connections_closed
        forget(proxy)
        assert is_on_reader(proxy, lambda: other.execute("select * from public.numbers"))
        assert proxy.stats().database_connections_closed == closed, "the reader has answered"
    before = count_of(conn)
    conn.execute('select * from "ÄRGER İ"')
    assert count_of(conn) > before


def test_a_view_made_later_is_known_to_the_session_that_made_it(proxy, conn):
    """What it found out about the database before does not count then."""
    conn.execute("insert into numbers values (1)")
    reads_there(proxy, lambda: conn.execute("select * from numbers"))
    conn.execute("create sequence counting")
    conn.execute("create function moved() returns bigint language sql as $$ select nextval('counting') $$")
    with conn.transaction():
        conn.execute("create view moving as select moved()")
    try:
        assert conn.execute("select * from moving").fetchone() == (1,)
        assert conn.execute("select * from moving").fetchone() == (2,)
    finally:
        conn.execute("drop view moving; drop function moved; drop sequence counting")


def test_a_read_that_a_reader_refuses_or_breaks_off_is_answered_by_the_writer(cluster, proxy, conn):
    """It was sent there on our own account: the application notices nothing. Its own mistakes it is told."""
    conn.execute("insert into numbers values (1)")
    reads_there(proxy, lambda: conn.execute("select * from numbers"))
    for relay in (node.relay for node in cluster.nodes[1:]):
        relay.delay(0.3)
    cutters = [threading.Timer(0.2, node.relay.reset_all) for node in cluster.nodes[1:]]
    for cutter in cutters:
        cutter.start()
    assert conn.execute("select count(*) from numbers").fetchone() == (1,)
    for cutter in cutters:
        cutter.join()
    for relay in (node.relay for node in cluster.nodes[1:]):
        relay.delay(0.0)
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("select * from nowhere")
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("select 1 / (number - 1) from numbers")


def test_a_conflict_with_recovery_is_not_the_sessions(cluster, conn):
    """A standby cancels what keeps it from replaying: the writer answers."""
    conn.execute("create table shortlived as select generate_series(1, 3) as id")
    for node in cluster.nodes[1:]:
        node.ask("select count(*) from pg_stat_database_conflicts")
        with node.server.admin() as admin:
            admin.execute("alter system set max_standby_streaming_delay = '100ms'")
            admin.execute("select pg_reload_conf()")
    rows = []
    reading = threading.Thread(
        target=lambda: rows.extend(conn.execute("select id, pg_catalog.pg_sleep(0.4) from shortlived order by id"))
    )
    reading.start()
    time.sleep(0.2)
    with cluster.nodes[0].server.admin(dbname=conn.info.dbname) as admin:
        admin.execute("delete from shortlived where id = 1")
        admin.execute("vacuum (freeze) shortlived")
    reading.join()
    assert [number for number, _ in rows] in ([1, 2, 3], [2, 3])
    conn.execute("drop table shortlived")


def test_a_read_that_was_cut_on_a_promoted_reader_is_not_sent_again():
    """It is the writer now, and the only host: nobody has looked what a view there calls, and it may have written."""
    with (
        Cluster("15", standbys=1) as cluster,
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, connection_borrow_timeout=15) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        writer, reader = cluster.nodes
        conn.execute("create table numbers (number int)")
        conn.execute(
            "create function write_one() returns bigint language plpgsql as"
            " $$ begin insert into numbers values (1); perform pg_sleep(0.6); return 1; end $$"
        )
        conn.execute("create view writing as select write_one()")
        reads_there(proxy, lambda: conn.execute("select count(*) from numbers"))
        writer.kill()
        reader.promote()
        with reader.server.admin() as admin:
            admin.execute("alter system set synchronous_standby_names = ''")
            admin.execute("select pg_reload_conf()")
        conn.execute("insert into numbers values (0)")
        assert proxy.cluster.view.writer == conn._rdsproxy.reading.endpoint
        cutter = threading.Timer(0.3, reader.relay.reset_all)
        cutter.start()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select * from writing")
        cutter.join()
        running = "select count(*) from pg_stat_activity where query like '%from writing%' and state = 'active'"
        until(lambda: reader.ask(f"{running} and pid <> pg_backend_pid()") == 0, "the server is done with it")
        assert reader.ask("select count(*) from numbers where number = 1") <= 1


def test_readers_lost_under_way(cluster, proxy):
    """Threads that read and write all the time while a reader dies, and comes back: no error, nothing stale."""
    stop = threading.Event()
    errors, counts = [], []

    def work(at):
        with proxy.connect(autocommit=True) as conn:
            done = 0
            try:
                while not stop.is_set():
                    conn.execute("insert into numbers values (%s)", (at,))
                    done += 1
                    assert conn.execute("select count(*) from numbers where number = %s", (at,)).fetchone() == (done,)
            except Exception as error:
                errors.append(error)
            counts.append(done)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for node in (*cluster.nodes[1:], *cluster.nodes[1:]):
        time.sleep(0.3)
        node.relay.stop()
        time.sleep(0.3)
        node.relay.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert min(counts) > 10


def delayed(cluster, milliseconds):
    """From now on each standby replays a commit that much later."""
    for node in cluster.nodes[1:]:
        with node.server.admin() as admin:
            admin.execute(f"alter system set recovery_min_apply_delay = '{milliseconds} ms'")
            admin.execute("select pg_reload_conf()")


@pytest.mark.parametrize("pairs", [1_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_no_read_is_stale_however_far_the_readers_are_behind(cluster, proxy, pairs):
    """Pairs of a write and a read, with a delay that changes all the time; once caught up readers answer most."""
    threads, stale, stop = 8, [], threading.Event()

    def work(at):
        with proxy.connect(autocommit=True) as conn:
            for number in range(pairs // threads):
                conn.execute("insert into numbers values (%s)", (at * pairs + number,))
                (found,) = conn.execute(
                    "select count(*) from numbers where number between %s and %s", (at * pairs, at * pairs + number)
                ).fetchone()
                if found != number + 1:
                    stale.append((at, number, found))

    def change():
        while not stop.wait(0.2):
            for milliseconds in (50, 0, 5, 300, 0):
                delayed(cluster, milliseconds)
                if stop.wait(0.2):
                    return

    with cluster.nodes[0].server.admin(dbname="app") as admin:
        admin.execute("create index on numbers (number)")
    changing = threading.Thread(target=change)
    changing.start()
    workers = [threading.Thread(target=work, args=(at,)) for at in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    changing.join()
    delayed(cluster, 0)
    assert stale == []
    until(lambda: on_readers(proxy) and caught_up(cluster), "the standbys have caught up")
    before = on_readers(proxy)
    with proxy.connect(autocommit=True) as conn:
        for number in range(200):
            conn.execute("insert into numbers values (%s)", (-number,))
            assert conn.execute("select min(number) from numbers").fetchone() == (-number,)
    assert on_readers(proxy) - before >= 100


def test_reads_that_the_writer_answers_put_nothing_off(cluster, proxy, conn):
    """With standbys that are always a bit behind, one write is found on them soon, however often is read meanwhile."""
    conn.execute("insert into numbers values (1)")
    reads_there(proxy, lambda: conn.execute("select count(*) from numbers"))
    stop = threading.Event()

    def write():
        with proxy.connect(autocommit=True) as other:
            while not stop.wait(0.01):
                other.execute("insert into numbers values (2)")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        delayed(cluster, 500)
        conn.execute("insert into numbers values (1)")
        reads_there(proxy, lambda: conn.execute("select count(*) from numbers where number = 1"))
        assert conn.execute("select count(*) from numbers where number = 1").fetchone() == (2,)
    finally:
        stop.set()
        writing.join()
        delayed(cluster, 0)


def test_a_hidden_write_behind_a_read_that_the_writer_answered_is_found(cluster, proxy, conn):
    """What the writer's catalogue does not clear is noted."""
    conn.execute(
        "create function add_one() returns int language sql as $$ insert into numbers values (1) returning 1 $$"
    )
    conn.execute("create view adding as select add_one()")
    reads_there(proxy, lambda: conn.execute("select count(*) from numbers"))
    pause(cluster)
    try:
        with proxy.connect(autocommit=True) as other:
            other.execute("insert into numbers values (2)")
            for number in range(1, 4):
                other.execute("select count(*) from numbers")
                other.execute("select * from adding")
                assert other.execute("select count(*) from numbers where number = 1").fetchone() == (number,)
    finally:
        for node in cluster.nodes[1:]:
            node.ask("select pg_wal_replay_resume() is null")
        conn.execute("drop view adding; drop function add_one")


def caught_up(cluster):
    position = cluster.nodes[0].ask("select pg_current_wal_lsn()::text")
    return all(node.ask(f"select pg_last_wal_replay_lsn() >= '{position}'") for node in cluster.nodes[1:])


def set_up(node, *settings):
    """Change the configuration of a server while it runs."""
    with node.server.admin() as admin:
        for setting in settings:
            admin.execute(f"alter system set {setting}")
        admin.execute("select pg_reload_conf()")


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_standby_that_is_ahead_on_an_older_timeline_has_nothing_of_the_new_writer(is_dead):
    """It had received more than the one that was promoted; or still receives from a writer that nobody else reaches."""
    with (
        Cluster("15", standbys=2) as cluster,
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, connection_borrow_timeout=30) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        writer, successor, ahead = cluster.nodes
        conn.execute("create table numbers (number int)")
        set_up(writer, "synchronous_standby_names = ''")
        set_up(successor, "primary_conninfo = ''")
        until(lambda: not successor.ask("select count(*) from pg_stat_wal_receiver"), "it receives nothing")
        conn.execute("insert into numbers select 7 from generate_series(1, 20000)")
        until(lambda: ahead.ask("select count(*) from numbers") == 20_000, "the other one is ahead")
        if is_dead:
            writer.fence()
        else:
            writer.relay.stop()
        successor.promote()
        for number in range(-1, -20, -1):
            conn.execute("insert into numbers values (%s)", (number,))
            assert conn.execute("select min(number) from numbers").fetchone() == (number,)


def test_a_standby_that_follows_the_new_writer_is_read_from():
    """At once, where the user may see what it receives."""
    with (
        Cluster("15", standbys=2) as cluster,
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, connection_borrow_timeout=30) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        writer, successor, follower = cluster.nodes
        conn.execute("create table numbers (number int)")
        with writer.server.admin() as admin:
            admin.execute(f"grant pg_read_all_stats to {APP_USER}")
        until(lambda: caught_up(cluster), "all is replayed")
        writer.fence()
        successor.promote()
        set_up(successor, "synchronous_standby_names = ''")
        there = successor.server
        set_up(follower, f"primary_conninfo = 'host={there.socket_dir} port={there.port} user={SUPERUSER}'")
        conn.execute("insert into numbers values (1)")
        reads_there(proxy, lambda: conn.execute("select * from numbers"))
        before = on_readers(proxy)
        for number in range(2, 50):
            conn.execute("insert into numbers values (%s)", (number,))
            assert conn.execute("select max(number) from numbers").fetchone() == (number,)
        assert on_readers(proxy) > before


def test_auroras_lag_is_as_old_as_its_report(monkeypatch):
    """The writer answers until the report tells of a time behind the write."""
    with (
        aws.aurora(aws.Names(monkeypatch), standbys=1) as face,
        rdsproxy_lib.Proxy(face.url(), read_write_splitting=True, connection_borrow_timeout=30) as proxy,
        proxy.connect(autocommit=True) as conn,
        face.nodes[0].server.admin(dbname=conn.info.dbname) as admin,
    ):
        ((report,),) = admin.execute("select pg_get_functiondef('pg_catalog.aurora_replica_status'::regproc)")
        old = report.replace("case when i.server_id <> aws.me() then now() end", "now() - interval '10 s'")
        assert old != report
        conn.execute("create table numbers (number int)")
        reads_there(proxy, lambda: conn.execute("select * from numbers"))
        admin.execute("set allow_system_table_mods = on")
        admin.execute(old)
        aws.caught_up(face)
        conn.execute("insert into numbers values (1)")
        time.sleep(0.1)
        for _ in range(5):
            assert not is_on_reader(proxy, lambda: conn.execute("select * from numbers"))
        admin.execute(report)
        reads_there(proxy, lambda: conn.execute("select * from numbers"))


# -- MariaDB and MySQL


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("mariadb-10.11", marks=pytest.mark.server("mariadb-10.11")),
        pytest.param("mysql-9.7", marks=pytest.mark.server("mysql-9.7")),
    ],
)
def mysql_cluster(request):
    """A writer and a replica."""
    with MySQLCluster(request.param) as cluster:
        for node in cluster.nodes:
            node.ask("set global log_bin_trust_function_creators = 1")
        with rdsproxy_lib.Proxy(cluster.url()) as proxy:
            conn = proxy.connect(autocommit=True)
            run(conn, "create table numbers (number int auto_increment primary key, who int)")
            conn.close()
        yield cluster


@pytest.fixture
def mysql_proxy(mysql_cluster):
    """One that splits."""
    with rdsproxy_lib.Proxy(mysql_cluster.url(), read_write_splitting=True) as proxy:
        yield proxy


@pytest.fixture
def mysql_conn(mysql_proxy):
    """A session in autocommit mode."""
    conn = mysql_proxy.connect(autocommit=True)
    yield conn
    conn.close()


def server_of(conn, side):
    ((number,),) = run(conn, f"/* rdsproxy: {side} */ select @@server_id")
    return number


def test_sides_of_mysql(mysql_proxy, mysql_conn):
    """Reads outside of transactions go to the replica, and all of a session that reads only."""
    assert (server_of(mysql_conn, "writer"), server_of(mysql_conn, "reader")) == (1, 2)
    assert not is_on_reader(mysql_proxy, lambda: run(mysql_conn, "insert into numbers (who) values (1)"))
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select * from numbers"))
    mysql_conn.begin()
    assert not is_on_reader(mysql_proxy, lambda: run(mysql_conn, "select * from numbers"))
    mysql_conn.commit()
    mysql_conn.autocommit(False)
    assert not is_on_reader(mysql_proxy, lambda: run(mysql_conn, "select * from numbers"))
    mysql_conn.commit()
    run(mysql_conn, "set session transaction read only")
    mysql_conn.commit()
    assert run(mysql_conn, "select @@server_id") == [(2,)]
    mysql_conn.commit()


def test_a_mysql_session_reads_its_own_writes(mysql_proxy, mysql_cluster):
    """With a replica that stops applying now and then; transactions too, and what it is told about its last insert."""
    replica = mysql_cluster.nodes[1]
    stop = threading.Event()
    word = "slave" if replica.server.is_mariadb else "replica"

    def hold_up():
        while not stop.wait(0.15):
            replica.ask(f"stop {word} sql_thread")
            stop.wait(0.15)
            replica.ask(f"start {word} sql_thread")

    disturbing = threading.Thread(target=hold_up)
    disturbing.start()
    conn = mysql_proxy.connect(autocommit=True)
    try:
        for number in range(150):
            run(conn, "insert into numbers (who) values (%s)", (100,))
            ((first,),) = run(conn, "select last_insert_id()")
            conn.begin()
            run(conn, "insert into numbers (who) values (%s)", (100,))
            conn.commit()
            assert run(conn, "select count(*) from numbers where who = 100") == [(2 * number + 2,)]
            assert run(conn, "select count(*) from numbers where number >= %s", (first,))[0][0] >= 2
    finally:
        stop.set()
        disturbing.join()
        conn.close()
    assert on_readers(mysql_proxy) > 50


@pytest.mark.parametrize("text", ["values (last_insert_id())", "select row_count()"])
def test_a_mysql_write_that_asks_about_the_one_before_is_found(mysql_proxy, mysql_conn, text):
    """It gets its database connection by another way than most."""
    run(mysql_conn, "create table children (parent int)")
    try:
        for number in range(1, 20):
            run(mysql_conn, "insert into numbers (who) values (3)")
            run(mysql_conn, f"insert into children {text}")
            assert run(mysql_conn, "select count(*) from children") == [(number,)]
    finally:
        run(mysql_conn, "drop table children")


def test_the_last_insert_id_is_the_sessions_own_on_every_host(mysql_proxy, mysql_conn):
    """Also where the replica was asked before, and the database connection that knows is in use."""
    question = "select last_insert_id()"
    assert run(mysql_conn, f"/* rdsproxy: reader */ {question}") == [(0,)]
    run(mysql_conn, "insert into numbers (who) values (17)")
    ((number,),) = run(mysql_conn, "select max(number) from numbers where who = 17")
    other = mysql_proxy.connect(autocommit=True)
    other.begin()
    assert server_of(other, "writer") == 1, "it holds the only one there"
    assert run(mysql_conn, f"/* rdsproxy: reader */ {question}") == [(number,)]
    other.rollback()
    assert run(mysql_conn, question) == [(number,)]
    other.close()


def test_a_reading_session_asks_for_its_last_insert_id_where_it_reads(mysql_proxy, mysql_conn):
    """It has none; and asks no writer for it."""
    assert server_of(mysql_conn, "writer") == 1, "there is a connection of the same login"
    conn = mysql_proxy.endpoint("READ_ONLY").connect(autocommit=True)
    for _ in range(3):
        assert run(conn, "select last_insert_id(), @@server_id") == [(0, 2)]
    conn.close()


@pytest.mark.filterwarnings("ignore:Previous unbuffered result was left incomplete")
def test_behind_a_result_that_was_not_read_to_the_end(mysql_proxy, mysql_conn):
    """It came from the replica; what is next goes where it belongs."""
    for number in range(3):
        run(mysql_conn, "insert into numbers (who) values (11)")
        run(mysql_conn, "select count(*) from numbers")
        with mysql_conn.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute("select * from numbers, (select 1 union select 2) twice")
            cursor.fetchone()
            if number:
                mysql_conn.begin()
            run(mysql_conn, "insert into numbers (who) values (12)")
            if number:
                mysql_conn.commit()
        assert run(mysql_conn, "select count(*) from numbers where who = 12") == [(number + 1,)]


def test_a_replica_that_is_behind_is_not_waited_for_long(mysql_cluster, mysql_proxy, mysql_conn):
    """The writer answers instead."""
    replica = mysql_cluster.nodes[1]
    word = "slave" if replica.server.is_mariadb else "replica"
    run(mysql_conn, "insert into numbers (who) values (13)")
    run(mysql_conn, "select count(*) from numbers")
    replica.ask(f"stop {word} sql_thread")
    try:
        run(mysql_conn, "insert into numbers (who) values (13)")
        started = time.monotonic()
        for _ in range(20):
            assert run(mysql_conn, "select count(*) from numbers where who = 13") == [(2,)]
        assert time.monotonic() - started < 3
    finally:
        replica.ask(f"start {word} sql_thread")


def test_writes_that_no_text_shows_mysql(mysql_proxy, mysql_conn):
    """Behind a view, or a view on a view, even where the function keeps quiet about what it could not do."""
    run(mysql_conn, "create table seen (what text)")
    run(
        mysql_conn,
        "create function see(what text) returns int modifies sql data begin declare continue handler for sqlexception"
        " begin end; insert into seen values (what); return 1; end",
    )
    run(mysql_conn, "create sql security invoker view watched as select number, see('view') as s from numbers")
    run(mysql_conn, "create sql security invoker view rewatched as select number, s from watched")
    run(mysql_conn, "insert into numbers (who) values (7)")
    for text in ("select s from watched limit 1", "select s from rewatched limit 1"):
        run(mysql_conn, text)
    assert len(run(mysql_conn, "/* rdsproxy: writer */ select what from seen")) >= 2
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select * from numbers limit 1"))
    for name in ("view rewatched", "view watched", "function see", "table seen"):
        run(mysql_conn, f"drop {name}")


def test_settings_that_a_replica_cannot_have_yet(mysql_cluster, mysql_proxy, mysql_conn):
    """They name a database that is not there so far: the writer answers, and the replica again once it has it."""
    replica = mysql_cluster.nodes[1]
    word = "slave" if replica.server.is_mariadb else "replica"
    run(mysql_conn, "insert into numbers (who) values (31)")
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select count(*) from numbers"))
    other = mysql_proxy.connect(autocommit=True)
    replica.ask(f"stop {word} sql_thread")
    try:
        run(other, "create database test_later")
        for _ in range(3):
            run(mysql_conn, "use test_later")
            assert run(mysql_conn, "select 1") == [(1,)]
        assert run(mysql_conn, "select database()") == [("test_later",)]
    finally:
        replica.ask(f"start {word} sql_thread")
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select 1"))
    run(other, "drop database test_later")
    other.close()


def test_settings_that_every_reader_refuses(mysql_proxy, mysql_conn):
    """A session that goes to readers alone is told what they say, and goes on when they take them."""
    run(mysql_conn, "create database test_come_and_gone")
    reading = mysql_proxy.endpoint("READ_ONLY").connect(autocommit=True)
    until(lambda: ("test_come_and_gone",) in run(reading, "show databases"), "the replica has it")
    run(reading, "use test_come_and_gone")
    run(mysql_conn, "drop database test_come_and_gone")
    until(lambda: ("test_come_and_gone",) not in run(reading, "show databases"), "the replica has dropped it")
    for pool in mysql_proxy.pools()[1:]:
        pool.retire()
    for _ in range(2):
        with pytest.raises(pymysql.err.OperationalError, match="test_come_and_gone"):
            run(reading, "select 1")
    assert reading.open
    run(mysql_conn, "create database test_come_and_gone")
    assert until(lambda: is_answered(reading), "the replica has it again")
    run(mysql_conn, "drop database test_come_and_gone")
    reading.close()


def is_answered(conn):
    try:
        return run(conn, "select database()") == [("test_come_and_gone",)]
    except pymysql.err.OperationalError:
        return False


def test_reads_that_fail_on_a_replica_cost_no_connections(mysql_proxy, mysql_conn):
    """The one there is whole, and is given back with nothing open."""
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select count(*) from numbers"))
    before = mysql_proxy.stats().database_connections_setup_succeeded
    for _ in range(10):
        with pytest.raises(pymysql.Error, match="nowhere"):
            run(mysql_conn, "select * from nowhere")
        with pytest.raises(pymysql.Error):
            run(mysql_conn, "select (select 1 union select 2)")
    assert mysql_proxy.stats().database_connections_setup_succeeded - before <= 1
    assert run(mysql_conn, "show warnings")[0][1] == 1242, "of the last statement, wherever it ran"
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select count(*) from numbers"))


@pytest.fixture
def seeing_mysql(mysql_proxy, mysql_conn):
    """Views that call a function which writes; one has a name that is not in every character set."""
    run(mysql_conn, "create table seen (what text)")
    run(
        mysql_conn,
        "create function see(what text) returns int modifies sql data begin declare continue handler for sqlexception"
        " begin end; insert into seen values (what); return 1; end",
    )
    views = ["a_plain", "watched", "目"]
    for name in views:
        call = "1" if name == "a_plain" else "see('view')"
        run(mysql_conn, f"create sql security invoker view `{name}` as select {call} as s")
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select count(*) from numbers"))
    yield mysql_proxy, mysql_conn
    for name in views:
        run(mysql_conn, f"drop view `{name}`")
    run(mysql_conn, "drop function see")
    run(mysql_conn, "drop table seen")


@pytest.mark.parametrize(
    "setting", ["sql_select_limit = 1", "names latin1", "sql_mode = 'ansi_quotes'", "sql_quote_show_create = 0"]
)
def test_a_setting_of_one_session_hides_no_view_from_any(seeing_mysql, setting):
    """What one session finds in the catalogue is for all."""
    proxy, conn = seeing_mysql
    other = proxy.connect(autocommit=True)
    run(other, f"set session {setting}" if "=" in setting else f"set {setting}")
    for _ in range(2):  # the second time on a connection with that setting
        forget(proxy)
        reads_there(proxy, lambda: run(other, "select count(*) from numbers"))
    other.close()
    for name in ("watched", "目"):
        before = run(conn, "/* rdsproxy: writer */ select count(*) from seen")
        assert not is_on_reader(proxy, lambda name=name: run(conn, f"select * from `{name}`"))
        assert run(conn, "/* rdsproxy: writer */ select count(*) from seen") > before


def test_a_limit_of_time_is_not_for_questions_of_ours_mysql(mysql_cluster, mysql_proxy, mysql_conn):
    """The session's own statements have it."""
    for number in range(300):
        run(mysql_conn, f"create view many_{number} as select * from numbers")
    is_mariadb = mysql_cluster.nodes[0].server.is_mariadb
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select 1 from numbers limit 1"))
    run(mysql_conn, "set session " + ("max_statement_time = 0.001" if is_mariadb else "max_execution_time = 1"))

    def read():
        with suppress(pymysql.OperationalError):  # its own statement took so long
            run(mysql_conn, "select 1 from numbers limit 1")

    reads_there(mysql_proxy, read)
    closed = mysql_proxy.stats().database_connections_closed
    for _ in range(3):
        forget(mysql_proxy)
        assert is_on_reader(mysql_proxy, read)
    assert mysql_proxy.stats().database_connections_closed == closed
    run(mysql_conn, "set session " + ("max_statement_time = 0" if is_mariadb else "max_execution_time = 0"))
    for number in range(300):
        run(mysql_conn, f"drop view many_{number}")


def test_a_read_that_was_cut_on_a_replica_is_answered_by_the_writer(mysql_proxy, mysql_conn, mysql_cluster):
    """The application notices nothing; its own mistakes it is told."""
    relay = mysql_cluster.nodes[1].relay
    run(mysql_conn, "insert into numbers (who) values (9)")
    reads_there(mysql_proxy, lambda: run(mysql_conn, "select * from numbers"))
    relay.delay(0.3)
    cutter = threading.Timer(0.2, relay.reset_all)
    cutter.start()
    assert run(mysql_conn, "select count(*) from numbers where who = 9") == [(1,)]
    cutter.join()
    relay.delay(0.0)
    with pytest.raises(Exception, match="nowhere"):
        run(mysql_conn, "select * from nowhere")


def test_a_read_that_was_cut_on_a_promoted_replica_is_not_sent_again(mysql_proxy, mysql_conn, mysql_cluster):
    """The host where the session reads is the writer, as after a failover: what was cut there may have written."""
    writer, replica = mysql_cluster.nodes
    run(
        mysql_conn,
        "create function write_slowly() returns int modifies sql data begin"
        " insert into numbers (who) values (21); do sleep(0.6); return 1; end",
    )
    run(mysql_conn, "create view writing as select write_slowly() as one")
    run(mysql_conn, "select count(*) from numbers")
    mysql_conn._rdsproxy.reading.endpoint = host_of(mysql_proxy, writer)
    replica.relay.stop()
    try:
        cutter = threading.Timer(0.3, writer.relay.reset_all)
        cutter.start()
        with pytest.raises(pymysql.err.OperationalError):
            run(mysql_conn, "select one from writing")
        cutter.join()
        time.sleep(1)
        assert run(mysql_conn, "/* rdsproxy: writer */ select count(*) from numbers where who = 21")[0][0] <= 1
    finally:
        replica.relay.start()
        for name in ("view writing", "function write_slowly"):
            run(mysql_conn, f"drop {name}")


FAILING = {
    "call half()": [],
    "insert into mine values (1), (2), (3), (2)": [],
    "create table mine (key_of int)": ["begin", "insert into numbers (who) values (21)"],
}
"""Each commits a row, then fails; and what runs before it."""


@pytest.mark.parametrize("text", FAILING)
def test_what_a_statement_committed_before_it_failed_is_found(mysql_cluster, mysql_conn, text):
    """An error tells no GTID: the writer is asked how far it is."""
    replica = mysql_cluster.nodes[1]
    word = "slave" if replica.server.is_mariadb else "replica"
    run(mysql_conn, "create table mine (key_of int primary key) engine=myisam")
    run(
        mysql_conn,
        "create procedure half() modifies sql data begin insert into numbers (who) values (21);"
        " signal sqlstate '45000'; end",
    )
    count = "select (select count(*) from numbers where who = 21) + (select count(*) from mine)"
    try:
        until(lambda: replica.ask("show procedure status where name = 'half'"), "the replica has it all")
        ((before,),) = run(mysql_conn, count)
        replica.ask(f"stop {word} sql_thread")
        for each in FAILING[text]:
            run(mysql_conn, each)
        with pytest.raises(pymysql.err.MySQLError):
            run(mysql_conn, text)
        ((after,),) = run(mysql_conn, f"/* rdsproxy: writer */ {count}")
        assert after > before
        assert run(mysql_conn, count) == [(after,)]
    finally:
        replica.ask(f"start {word} sql_thread")
        run(mysql_conn, "drop procedure half")
        run(mysql_conn, "drop table mine")


@pytest.mark.parametrize("where", ["settle", "note"])
@pytest.mark.parametrize("how", ["autocommit", "transaction"])
def test_a_write_is_found_whose_note_is_interrupted(mysql_cluster, mysql_conn, monkeypatch, how, where):
    """What was said about how far the writer is was heard by nobody: it is asked again."""
    replica = mysql_cluster.nodes[1]
    word = "slave" if replica.server.is_mariadb else "replica"
    run(mysql_conn, "insert into numbers (who) values (31)")
    ((before,),) = run(mysql_conn, "/* rdsproxy: writer */ select count(*) from numbers")

    def interrupted(reading, _):
        raise KeyboardInterrupt

    def write():
        run(mysql_conn, "insert into numbers (who) values (31)")
        mysql_conn.commit()

    replica.ask(f"stop {word} sql_thread")
    try:
        if how == "transaction":
            mysql_conn.begin()
        with monkeypatch.context() as patched:
            patched.setattr(f"rdsproxy_lib.reading.Reading.{where}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                write()
        assert run(mysql_conn, "select count(*) from numbers") == [(before + 1,)]
    finally:
        replica.ask(f"start {word} sql_thread")


@pytest.mark.server("mysql-9.7")
def test_without_gtids_the_writer_answers_who_has_written():
    """What a replica says of its lag is no proof: what is still on its way to it does not count. Others read there."""
    with MySQLCluster("mysql-9.7") as cluster, ExitStack() as stack:
        writer, replica = cluster.nodes
        slow = stack.enter_context(TcpRelay(writer.server.host, writer.server.port))
        replica.ask("stop replica", "set global super_read_only = 0")
        for node in cluster.nodes:
            node.ask(*(f"set global gtid_mode = {mode}" for mode in ("ON_PERMISSIVE", "OFF_PERMISSIVE")))
            node.ask("set sql_log_bin = 0", f"grant replication client on *.* to '{APP_USER}'@'%'")
        file, position, *_ = writer.ask("show binary log status")
        replica.ask(
            f"change replication source to source_auto_position=0, source_host='{slow.host}', source_port={slow.port},"
            f" source_log_file='{file}', source_log_pos={position}",
            "set global super_read_only = 1",
            "start replica",
        )
        proxy = stack.enter_context(rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True))
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        run(conn, "create table numbers (number int auto_increment primary key, who int)")
        until(lambda: replica.ask("show tables like 'numbers'"), "the replica has it")
        slow.delay(0.3)
        for number in range(1, 6):
            run(conn, "insert into numbers (who) values (%s)", (number,))
            assert run(conn, "select max(who) from numbers") == [(number,)]
        assert not is_on_reader(proxy, lambda: run(conn, "select * from numbers"))
        assert is_on_reader(proxy, lambda: run(other, "select * from numbers"))
        conn.close()
        other.close()


@pytest.mark.server("mariadb-10.11")
def test_a_replica_that_is_ahead_on_a_dead_branch_has_nothing_of_the_new_writer():
    """It had received more than the one that was promoted. One that follows the new writer is read from."""
    with (
        MySQLCluster("mariadb-10.11", replicas=2, waits=False) as cluster,
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, connection_borrow_timeout=30) as proxy,
    ):
        writer, successor, other = cluster.nodes
        conn, fresh = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        run(conn, "create table numbers (number int auto_increment primary key, who int)")
        until(lambda: all(node.ask("show tables like 'numbers'") for node in cluster.nodes), "the replicas have it")
        successor.ask("stop slave io_thread")
        for _ in range(40):
            run(conn, "insert into numbers (who) values (1)")
        until(lambda: other.ask("select count(*) from numbers") == (40,), "the other one is ahead")
        writer.fence()
        successor.promote()
        for number in range(100, 110):
            run(fresh, "insert into numbers (who) values (%s)", (number,))
            assert run(fresh, "select max(who) from numbers") == [(number,)]
        other.ask("stop slave", "drop table numbers", "reset master", "set global gtid_slave_pos = ''")
        other.follow(successor)
        reads_there(proxy, lambda: run(fresh, "select count(*) from numbers"))
        conn.close()
        fresh.close()


@pytest.mark.server("mysql-9.7")
def test_a_write_that_was_lost_with_its_writer_is_waited_for_by_nobody():
    """Its GTID is on no reader and never will be: after a failover the new writer is asked how far it is."""
    with (
        MySQLCluster("mysql-9.7", replicas=2) as cluster,
        rdsproxy_lib.Proxy(cluster.url(), read_write_splitting=True, connection_borrow_timeout=30) as proxy,
    ):
        writer, successor, follower = cluster.nodes
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        run(conn, "create table numbers (number int auto_increment primary key, who int)")
        until(lambda: all(node.ask("show tables like 'numbers'") for node in cluster.nodes), "the replicas have it")
        for node in (successor, follower):
            node.ask("stop replica io_thread")
        run(conn, "insert into numbers (who) values (1)")
        writer.fence()
        successor.promote()
        follower.ask("stop replica")
        follower.follow(successor)
        run(other, "insert into numbers (who) values (2)")
        reads_there(proxy, lambda: run(conn, "select count(*) from numbers"))
        assert run(conn, "select who from numbers") == [(2,)]
        run(conn, "insert into numbers (who) values (3)")
        assert run(conn, "select max(who) from numbers") == [(3,)]
        reads_there(proxy, lambda: run(conn, "select count(*) from numbers"))
        conn.close()
        other.close()
