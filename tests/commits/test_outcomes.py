"""`resolve_commits`: which transactions leave a token, what a cut COMMIT comes to, and what nobody notices of it."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib.commits import Outcome, new_token
from tests.cluster.history import run
from tests.commits.places import tables

WRITE = "insert into work values (%s)"
OURS = [(True, 0)]


def lose_request(place):
    """The next bytes to the server do not arrive."""
    place.relay.cut_after(0, "to_server")


def cost_of(place, conn, commit=None):
    """How many bytes a COMMIT takes to the server and back, that of a transaction like the one to come."""
    run(conn, WRITE, (-1,))
    before = place.relay.traffic()
    (commit or conn.commit)()
    return place.relay.traffic() - before


def lose_commit(place, cost):
    """The token arrives, and the end of the COMMIT does not."""
    place.relay.cut_after(cost.bytes_to_server - 1, "to_server")


def lose_answer(place, cost):
    """The end of what the server answers to the COMMIT does not arrive."""
    place.relay.cut_after(cost.bytes_to_client - 3, "to_client")


def login_of(proxy):
    """The login of its sessions, checked."""
    conn = proxy.connect()
    run(conn, "select 1")
    login = conn.rdsproxy.login
    conn.close()
    return login


# Who leaves a token -----------------------------------------------------------------------------------------


def test_a_transaction_that_wrote_leaves_one_token(place):
    """By commit(), by the text, and under autocommit by BEGIN and COMMIT; read or lost ones leave none."""
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, "select number from work")
        conn.commit()
        run(conn, WRITE, (0,))
        conn.rollback()
        conn.commit()
        assert place.tokens() == []
        run(conn, WRITE, (1,))
        run(conn, WRITE, (2,))
        run(conn, "select number from work")
        conn.commit()
        assert place.tokens() == OURS
        run(conn, WRITE, (3,))
        run(conn, "COMMIT work")
        assert place.tokens() == OURS * 2
        conn.close()
        conn = proxy.connect(autocommit=True)
        run(conn, WRITE, (4,))
        assert place.tokens() == OURS * 2, "a statement by itself has none"
        for text in ("begin", "select 1", "commit", "begin"):
            run(conn, text)
        run(conn, WRITE, (5,))
        run(conn, "/* the end */ commit")
        assert place.tokens() == OURS * 3
        conn.close()


def test_the_option_off_leaves_nothing(place):
    """No token, and a COMMIT that is cut is OutcomeUnknown."""
    with place.proxy(resolve_commits=None) as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, WRITE, (1,))
        conn.commit()
        run(conn, WRITE, (2,))
        lose_request(place)
        with pytest.raises(rdsproxy_lib.OutcomeUnknown):
            conn.commit()
        assert place.tokens() == []
        conn.close()


def test_blocks_of_psycopg(postgresql):
    """The outermost one leaves the token; `with conn:` does as well."""
    with postgresql.proxy() as proxy:
        with proxy.connect() as conn:
            with conn.transaction():
                run(conn, WRITE, (1,))
                with conn.transaction():
                    run(conn, WRITE, (2,))
            assert postgresql.tokens() == OURS
            with conn.transaction():
                run(conn, "select 1")
            run(conn, WRITE, (3,))
        assert postgresql.tokens() == OURS * 2


@pytest.mark.parametrize("text", ["notify news", "select pg_notify('news', 'here')"])
def test_a_notification_counts_as_writing(postgresql, text):
    """It is heard exactly if its COMMIT is told to have happened."""
    with postgresql.proxy() as proxy, postgresql.private(autocommit=True) as listener:
        listener.execute("listen news")
        conn = proxy.connect()
        cost = cost_of(postgresql, conn)
        run(conn, text)
        lose_request(postgresql)
        with pytest.raises(rdsproxy_lib.TransactionLost):
            conn.commit()
        assert list(listener.notifies(timeout=0.3)) == []
        run(conn, text)
        lose_answer(postgresql, cost)
        conn.commit()
        assert len(list(listener.notifies(timeout=0.3))) == 1
        conn.close()


def test_transactions_that_may_only_read(postgresql):
    """They commit, also where they have written to a temporary table, and leave nothing."""
    with postgresql.proxy() as proxy:
        conn = proxy.connect()
        run(conn, "create temporary table own (n int)")
        conn.commit()
        before = postgresql.tokens()
        conn.read_only = True
        run(conn, "insert into own values (1)")
        conn.commit()
        assert run(conn, "select n from own") == [(1,)]
        conn.commit()
        assert postgresql.tokens() == before
        conn.close()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_stricter_isolation(place, level):
    """Two such transactions side by side commit, each with its token."""
    with place.proxy() as proxy:
        conns = [proxy.connect(autocommit=True) for _ in range(2)]
        for conn in conns:
            if place.is_postgresql:
                run(conn, f"begin isolation level {level}")
            else:
                run(conn, f"set transaction isolation level {level}")
                run(conn, "begin")
        for number, conn in enumerate(conns):
            run(conn, WRITE, (number,))
        for conn in conns:
            conn.commit()
            conn.close()
    assert place.tokens() == OURS * 2


# What a cut comes to ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["method", "text"])
def test_a_commit_that_did_not_arrive(place, how):
    """TransactionLost, to be tried again; the session goes on without a rollback, and the second time it is done."""
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        commit = conn.commit if how == "method" else lambda: run(conn, "commit")
        run(conn, WRITE, (1,))
        lose_request(place)
        with pytest.raises(rdsproxy_lib.TransactionLost) as caught:
            commit()
        assert caught.value.retry_safe
        assert not conn.rdsproxy.in_transaction
        assert not place.is_there(1)
        run(conn, WRITE, (1,))
        commit()
        assert place.is_there(1)
        conn.close()


def test_a_block_whose_commit_did_not_arrive(postgresql):
    """The same at the end of `with conn.transaction():`."""
    with postgresql.proxy() as proxy, proxy.connect() as conn:
        block = conn.transaction()
        block.__enter__()
        run(conn, WRITE, (1,))
        lose_request(postgresql)
        with pytest.raises(rdsproxy_lib.TransactionLost):
            block.__exit__(None, None, None)
        assert not postgresql.is_there(1)
        with conn.transaction():
            run(conn, WRITE, (1,))
        assert postgresql.is_there(1)


def test_a_commit_whose_answer_was_lost(place):
    """It returns as if nothing had happened; the session has its settings, and what it read before is still there."""
    setting = "set timezone to 'Etc/GMT+3'" if place.is_postgresql else "set time_zone = '+03:00'"
    question = "show timezone" if place.is_postgresql else "select @@time_zone"
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, setting)
        conn.commit()
        ((value,),) = run(conn, question)
        cost = cost_of(place, conn)
        backend = conn.rdsproxy.backend_id
        run(conn, WRITE, (1,))
        lose_answer(place, cost)
        conn.commit()
        assert place.is_there(1)
        assert sorted(place.tokens()) == [(True, 0), (True, 1)]
        assert not conn.rdsproxy.in_transaction
        assert not conn.rdsproxy.pinned
        assert run(conn, question) == [(value,)]
        assert conn.rdsproxy.backend_id != backend
        run(conn, WRITE, (2,))
        conn.commit()
        assert place.is_there(2)
        conn.close()


def test_the_text_whose_answer_was_lost(place):
    """A cursor has an answer to COMMIT as ever."""
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        cost = cost_of(place, conn, lambda: run(conn, "commit"))
        run(conn, WRITE, (1,))
        lose_answer(place, cost)
        with conn.cursor() as cursor:
            notices = []
            if place.is_postgresql:
                conn.add_notice_handler(notices.append)
            cursor.execute("commit")
            assert cursor.description is None
            if place.is_postgresql:
                assert cursor.statusmessage == "COMMIT"
                assert notices == []
            else:
                assert cursor.rowcount == 0
        assert place.is_there(1)
        conn.close()


def test_the_block_whose_answer_was_lost(postgresql):
    """It is left without an error, and its status says that it is committed."""
    with postgresql.proxy() as proxy, proxy.connect(autocommit=True) as conn:
        with conn.transaction() as block:
            run(conn, WRITE, (1,))
            postgresql.relay.cut_after(0, "to_client")
        assert block.status is block.Status.COMMITTED
        assert postgresql.is_there(1)
        with conn.transaction():
            run(conn, WRITE, (2,))
        assert postgresql.is_there(2)


def test_two_phases(postgresql):
    """Without a prepare, tpc_commit() is a COMMIT like others; with one, what became of it is not known from here."""
    with postgresql.proxy() as proxy:
        conn = proxy.connect()
        cost = cost_of(postgresql, conn)
        conn.tpc_begin("first")
        run(conn, WRITE, (1,))
        lose_answer(postgresql, cost)
        conn.tpc_commit()
        assert postgresql.is_there(1)
        conn.tpc_begin("second")
        run(conn, WRITE, (2,))
        conn.tpc_prepare()
        lose_request(postgresql)
        with pytest.raises(rdsproxy_lib.OutcomeUnknown):
            conn.tpc_commit()
        with proxy.connect() as other:
            (xid,) = other.tpc_recover()
            other.tpc_rollback(xid)
        conn.close()


def test_a_pipeline(postgresql):
    """Its COMMITs go without tokens."""
    with postgresql.proxy() as proxy:
        conn = proxy.connect()
        with conn.pipeline():
            run(conn, WRITE, (1,))
            conn.commit()
        assert postgresql.is_there(1)
        assert postgresql.tokens() == []

        def work():
            with conn.pipeline():
                lose_request(postgresql)
                run(conn, WRITE, (2,))
                conn.commit()

        with pytest.raises(rdsproxy_lib.OutcomeUnknown):
            work()
        conn.close()


def test_what_was_set_in_a_transaction_that_was_cut(place):
    """Committed, with a setting that nobody can read any more: SessionLost says that the work is there."""
    setting = "set timezone to 'Etc/GMT+3'" if place.is_postgresql else "set time_zone = '+03:00'"
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        cost = cost_of(place, conn)
        run(conn, WRITE, (1,))
        run(conn, setting)
        lose_answer(place, cost)
        with pytest.raises(rdsproxy_lib.SessionLost, match="IS committed") as caught:
            conn.commit()
        assert (caught.value.committed, caught.value.retry_safe) == (True, False)
        assert place.is_there(1)
        with pytest.raises(rdsproxy_lib.SessionLost, match="IS committed"):
            run(conn, "select 1")
        conn.close()


def test_a_setting_of_a_transaction_that_is_undone(place):
    """PostgreSQL undoes it with the work, so the session goes on; MySQL does not, so that the session is lost."""
    setting = "set timezone to 'Etc/GMT+3'" if place.is_postgresql else "set time_zone = '+03:00'"
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, WRITE, (1,))
        run(conn, setting)
        lose_request(place)
        with pytest.raises(rdsproxy_lib.Error) as caught:
            conn.commit()
        if place.is_postgresql:
            assert isinstance(caught.value, rdsproxy_lib.TransactionLost)
            assert run(conn, "show timezone") != [("Etc/GMT+3",)]
        else:
            assert isinstance(caught.value, rdsproxy_lib.SessionLost)
        assert not place.is_there(1)
        conn.close()


@pytest.mark.parametrize("is_done", [True, False])
def test_a_pinned_session(place, is_done):
    """It is lost, and says what became of its COMMIT."""
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        conn.rdsproxy.pin("a test")
        cost = cost_of(place, conn)
        run(conn, WRITE, (1,))
        (lose_answer if is_done else lose_commit)(place, cost)
        with pytest.raises(rdsproxy_lib.SessionLost) as caught:
            conn.commit()
        assert caught.value.committed is is_done
        assert caught.value.retry_safe is not is_done
        assert ("IS committed" in str(caught.value)) == is_done
        assert place.is_there(1) == is_done
        conn.close()


def test_what_cannot_be_told_stays_unknown(place):
    """A statement by itself, several in one text, and a COMMIT that begins the next transaction."""
    options = {} if place.is_postgresql else {"client_flag": pymysql.constants.CLIENT.MULTI_STATEMENTS}
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=True, **options)
        for texts in (
            ["insert into work values (1)"],
            ["begin", "insert into work values (2)", "commit and chain"],
            ["begin", "insert into work values (3); commit"],
        ):
            for text in texts[:-1]:
                run(conn, text)
            run(conn, "select 1")
            lose_request(place)
            with pytest.raises(rdsproxy_lib.OutcomeUnknown):
                run(conn, texts[-1])
            conn.rollback()
        conn.close()
    assert place.tokens() == []


def test_the_next_statement_stands_in_no_transaction(place):
    """After a COMMIT that was cut, a write by itself that is cut is OutcomeUnknown, and not undone."""
    with place.proxy(resolve_commits=None) as proxy:
        conn = proxy.connect(autocommit=True)
        run(conn, "begin")
        run(conn, WRITE, (1,))
        lose_request(place)
        with pytest.raises(rdsproxy_lib.OutcomeUnknown):
            run(conn, "commit")
        other = proxy.connect(autocommit=True)
        run(other, "select 1")  # so that there is a database connection
        lose_request(place)
        with pytest.raises(rdsproxy_lib.OutcomeUnknown):
            run(conn, WRITE, (2,))
        other.close()
        conn.close()


def test_nobody_can_be_asked(place):
    """No connection for the question can be had: OutcomeUnknown, as without the option."""
    allow, forbid = ("login", "nologin") if place.is_postgresql else ("account unlock", "account lock")
    who = "role app" if place.is_postgresql else "user app"
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        cost = cost_of(place, conn)
        run(conn, WRITE, (1,))
        lose_commit(place, cost)
        with place.server.admin() as admin:
            run(admin, f"alter {who} {forbid}")
            try:
                with pytest.raises(rdsproxy_lib.OutcomeUnknown):
                    conn.commit()
            finally:
                run(admin, f"alter {who} {allow}")
        assert not place.is_there(1)
        conn.close()


# Asking -----------------------------------------------------------------------------------------------------


@contextmanager
def still_at_it(place, token):
    """A transaction that left the token, and has not come to an end."""
    conn = place.private(autocommit=True)
    try:
        run(conn, "begin")
        value = f"'{token}'" if place.is_postgresql else f"x'{token}'"
        run(conn, f"insert into tokens (token, is_committed) values ({value}, {'true' if place.is_postgresql else 1})")
        yield conn
    finally:
        conn.close()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_that_is_still_at_it_is_waited_for(place, end):
    """For longer than one question takes; then its end is what is told."""
    token = new_token()
    with place.proxy() as proxy, still_at_it(place, token) as conn:
        login = login_of(proxy)
        timer = threading.Timer(1.7, lambda: run(conn, end))
        timer.start()
        started = time.monotonic()
        outcome = proxy.commits.outcome_of(login, token)
        assert time.monotonic() - started > 1.2
        timer.join()
        assert outcome is (Outcome.COMMITTED if end == "commit" else Outcome.UNDONE)


def test_a_transaction_that_does_not_end(place):
    """Nothing is concluded from waiting; and it can still commit."""
    token = new_token()
    with place.proxy(connection_borrow_timeout=1.5) as proxy, still_at_it(place, token) as conn:
        started = time.monotonic()
        assert proxy.commits.outcome_of(login_of(proxy), token) is Outcome.UNKNOWN
        assert time.monotonic() - started < 4
        run(conn, "commit")
        assert proxy.commits.outcome_of(login_of(proxy), token) is Outcome.COMMITTED


def test_what_is_found_not_committed_stays_so(place):
    """The transaction that comes late with the same token is refused, with all that it did."""
    token = new_token()
    with place.proxy() as proxy:
        login = login_of(proxy)
        assert proxy.commits.outcome_of(login, token) is Outcome.UNDONE
        assert proxy.commits.outcome_of(login, token) is Outcome.UNDONE
        assert place.tokens() == [(False, 1)]
        with (
            pytest.raises((psycopg.errors.UniqueViolation, pymysql.err.IntegrityError)),
            still_at_it(place, token),
        ):
            pass
        assert place.tokens() == [(False, 1)]


@pytest.mark.parametrize("is_done", [True, False])
def test_a_question_that_is_cut_is_asked_again(place, is_done):
    """At any byte, its own COMMIT included: a row of ours is never taken for one of the transaction's."""
    with place.proxy() as proxy:
        login = login_of(proxy)
        before = place.relay.traffic()
        proxy.commits.outcome_of(login, new_token())
        spent = place.relay.traffic() - before
        for direction, size in (("to_server", spent.bytes_to_server), ("to_client", spent.bytes_to_client)):
            for at in (*range(0, size, size // 7), size - 25, size - 12, size - 3):
                token = new_token()
                if is_done:
                    with still_at_it(place, token) as conn:
                        run(conn, "commit")
                place.relay.cut_after(at, direction)
                outcome = proxy.commits.outcome_of(login, token)
                assert outcome is (Outcome.COMMITTED if is_done else Outcome.UNDONE), (direction, at)
                place.relay.cut_after(None, direction)


def test_a_proxy_that_is_closed_asks_no_more(place):
    """Who waits for an answer goes on without one, long before the time is over."""
    token = new_token()
    with place.proxy() as proxy, still_at_it(place, token):
        login = login_of(proxy)
        timer = threading.Timer(0.5, proxy.close)
        timer.start()
        started = time.monotonic()
        assert proxy.commits.outcome_of(login, token) is Outcome.UNKNOWN
        assert time.monotonic() - started < 10
        timer.join()


def test_several_ask_at_once(place):
    """One after the other; each is told its own."""
    with place.proxy() as proxy:
        login = login_of(proxy)
        tokens = [new_token() for _ in range(8)]
        for token in tokens[::2]:
            with still_at_it(place, token) as conn:
                run(conn, "commit")
        told = {}
        threads = [
            threading.Thread(target=lambda token=token: told.update({token: proxy.commits.outcome_of(login, token)}))
            for token in tokens
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [told[token] for token in tokens] == [Outcome.COMMITTED, Outcome.UNDONE] * 4


# What goes wrong by itself ----------------------------------------------------------------------------------


def test_a_table_that_is_missing_is_said_at_once(place):
    """connect() raises, with the statement that makes the table."""
    for name in ("nothing", "nowhere.nothing"):
        with place.proxy(resolve_commits=name) as proxy, pytest.raises(rdsproxy_lib.ConfigurationError) as caught:
            proxy.connect()
        assert f"create table {name}" in str(caught.value)
        assert "grant select, insert, update" in str(caught.value)


def test_a_table_that_is_not_as_it_should_be(place):
    """A column that is missing is named."""
    with place.proxy(resolve_commits="work") as proxy, pytest.raises(rdsproxy_lib.ConfigurationError, match="token"):
        proxy.connect()


def test_a_table_that_forgets_or_remembers_too_much(place):
    """Unlogged, it is empty after a crash; of MyISAM, it keeps what was rolled back; without a key, it takes all."""
    orders = (
        ["create unlogged table wrong (like tokens including all)", "create table wrong (like tokens)"]
        if place.is_postgresql
        else [
            "create table wrong like tokens; alter table wrong engine=MyISAM",
            "create table wrong as select * from tokens",
        ]
    )
    for order in orders:
        for text in order.split("; "):
            place.ask(text)
        try:
            with place.proxy(resolve_commits="wrong") as proxy, pytest.raises(rdsproxy_lib.ConfigurationError):
                proxy.connect()
        finally:
            place.ask("drop table wrong")


def test_a_right_that_is_missing(postgresql):
    """Of those three, each is needed."""
    for right in ("select", "insert", "update"):
        with postgresql.server.admin(dbname="app") as admin:
            admin.execute("create schema rights; grant usage on schema rights to app")
            for text in tables("postgresql-15")[1:]:
                admin.execute(text.replace("tokens", "rights.tokens"))
            admin.execute(f"revoke {right} on rights.tokens from app")
            try:
                with (
                    postgresql.proxy(resolve_commits="rights.tokens") as proxy,
                    pytest.raises(rdsproxy_lib.ConfigurationError, match="permission denied"),
                ):
                    proxy.connect()
            finally:
                admin.execute("drop schema rights cascade")


def test_a_table_that_goes_later_postgresql(postgresql):
    """The COMMIT is refused, the work undone, and the session goes on."""
    postgresql.ask("create table brief (like tokens including all)")
    with postgresql.proxy(resolve_commits="brief") as proxy:
        conn = proxy.connect()
        run(conn, WRITE, (1,))
        conn.commit()
        postgresql.ask("drop table brief")
        for commit in (conn.commit, lambda: run(conn, "commit")):
            run(conn, WRITE, (2,))
            with pytest.raises(rdsproxy_lib.ConfigurationError, match="Nothing was committed"):
                commit()
            assert not conn.rdsproxy.in_transaction
            assert conn.info.transaction_status.name == "IDLE"
        assert run(conn, "select number from work") == [(1,)]
        conn.commit()
        conn.close()


def test_a_table_that_goes_later_mysql(mysql, caplog):
    """The transaction is committed without a token, and the log says so."""
    mysql.ask("create table brief like tokens")
    with mysql.proxy(resolve_commits="brief") as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, "select 1")
        conn.commit()
        mysql.ask("drop table brief")
        run(conn, WRITE, (1,))
        with caplog.at_level(logging.WARNING):
            conn.commit()
        assert "goes without its token" in caplog.text
        assert mysql.is_there(1)
        conn.close()


def test_the_users_own_error_at_commit(postgresql):
    """A constraint that is looked at in the end fails the COMMIT with its own error; no token is left."""
    postgresql.ask("create table late (n int unique deferrable initially deferred)")
    try:
        with postgresql.proxy() as proxy:
            conn = proxy.connect()
            for commit in (conn.commit, lambda: run(conn, "commit")):
                run(conn, "insert into late values (1), (1)")
                with pytest.raises(psycopg.errors.UniqueViolation, match="late_n_key"):
                    commit()
                assert conn.info.transaction_status.name == "IDLE"
            run(conn, "insert into late values (1)")
            with pytest.raises(psycopg.errors.UndefinedTable):
                run(conn, "select * from nowhere")
            conn.commit()  # which rolls back
            assert run(conn, "select * from late") == []
            conn.commit()
            conn.close()
        assert postgresql.tokens() == []
    finally:
        postgresql.ask("drop table late")


def test_a_deadlock_is_the_drivers_own(mysql):
    """It has undone the transaction, so that there is nothing to commit and no token."""
    with mysql.proxy() as proxy:
        mysql.ask("insert into work values (1), (2)")
        mysql.ask("create unique index number on work (number)")
        try:
            first, second = proxy.connect(autocommit=False), proxy.connect(autocommit=False)
            run(first, "update work set number = 10 where number = 1")
            run(second, "update work set number = 20 where number = 2")
            codes = []

            def collide(conn, number):
                try:
                    run(conn, "select * from work where number = %s for update", (number,))
                except pymysql.err.OperationalError as error:
                    codes.append(error.args[0])
                conn.commit()

            threads = [
                threading.Thread(target=collide, args=(conn, number)) for conn, number in ((first, 2), (second, 1))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert codes == [1213]
            assert mysql.tokens() == OURS
            first.close()
            second.close()
        finally:
            mysql.ask("drop index number on work")


# What nobody notices ----------------------------------------------------------------------------------------


def test_nothing_of_it_shows_mysql(mysql):
    """LAST_INSERT_ID(), lastrowid, rowcount, warnings and their count are as on a private connection."""
    mysql.ask("create table counted (id int auto_increment primary key, word varchar(2))")
    try:
        seen = []
        with mysql.proxy() as proxy:
            for connect in (mysql.private, proxy.connect):
                for pins in (False, True):
                    mysql.ask("truncate counted")
                    conn = connect(autocommit=False, sql_mode="")
                    if pins:
                        run(conn, "select get_lock('here', 1)")
                    with conn.cursor() as cursor:
                        cursor.execute("select last_insert_id()")
                        conn.commit()
                        cursor.execute("insert into counted (word) values ('long'), ('longer')")
                        inserted = cursor.rowcount, cursor.lastrowid
                        conn.commit()
                        after = cursor.rowcount, cursor.lastrowid
                        warnings = conn.show_warnings()
                        cursor.execute("select last_insert_id()")
                        rows = cursor.fetchall()
                        cursor.execute("insert into counted (word) values ('longest')")
                        cursor.execute("commit")
                        texts = cursor.rowcount, cursor.lastrowid, cursor.description
                        cursor.execute("show warnings")
                        shown = cursor.fetchall()
                        counts = []
                        if pins:  # else they are refused where they are not certain
                            cursor.execute("select id from counted")
                            cursor.execute("update counted set word = 'x' where id = 1")
                            conn.commit()
                            for question in ("row_count()", "found_rows()"):
                                cursor.execute(f"select {question}")
                                counts.append(cursor.fetchall())
                        seen.append((inserted, after, warnings, rows, texts, shown, counts))
                    conn.close()
        private, multiplexed = seen[:2], seen[2:]
        assert multiplexed == private
    finally:
        mysql.ask("drop table counted")


def test_nothing_of_it_shows_postgresql(postgresql):
    """No notice, no statement counted, one round trip as ever, and `statusmessage` of the text."""
    with postgresql.proxy() as proxy:
        conn = proxy.connect()
        notices = []
        conn.add_notice_handler(notices.append)
        run(conn, WRITE, (1,))
        conn.commit()
        run(conn, WRITE, (2,))
        before, counted = postgresql.relay.traffic(), proxy.stats().query_requests
        conn.commit()
        assert (postgresql.relay.traffic() - before).round_trips == 1
        assert proxy.stats().query_requests == counted
        cursor = conn.execute(WRITE, (3,))
        assert conn.execute("commit").statusmessage == "COMMIT"
        assert cursor.rowcount == 1
        assert notices == []
        conn.close()
    assert postgresql.tokens() == OURS * 3
