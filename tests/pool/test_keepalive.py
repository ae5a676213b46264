"""What the operating system is told about each database connection, so that it finds by itself that a host is gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import closing
from typing import Any

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib.engines.descriptor import shut_down

TUNED = {"failure_detection_time": 0.5, "failure_detection_interval": 0.2, "failure_detection_count": 2}
OPTIONS = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)


def told(backend: Any) -> tuple[bool, list[int]]:
    """Whether keepalive is on, and its numbers, as the socket has them."""
    raw = backend.raw
    descriptor = raw.fileno() if isinstance(raw, psycopg.Connection) else raw._sock.fileno()
    with socket.socket(fileno=os.dup(descriptor)) as twin:
        numbers = [twin.getsockopt(socket.IPPROTO_TCP, option) for option in OPTIONS]
        return bool(twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), numbers


def held(proxy: rdsproxy_lib.Proxy) -> Any:
    """Its one open backend."""
    ((backend, _),) = proxy.pool.backends()
    return backend


NUMBERS = [
    ({}, [5, 1, 3, 8000]),
    (TUNED, [1, 1, 2, 900]),
    (
        {"failure_detection_time": 30, "failure_detection_interval": 2.5, "failure_detection_count": 4},
        [30, 3, 4, 40_000],
    ),
    ({"monitor": False}, [5, 1, 3, 8000]),
]


@pytest.mark.parametrize(("options", "numbers"), NUMBERS)
def test_every_database_connection_is_kept_alive(url, options, numbers):
    """With the numbers that follow from the options of failure detection, with and without the monitor."""
    with rdsproxy_lib.Proxy(url, **options) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        assert told(held(proxy)) == (True, numbers)


@pytest.mark.parametrize(("options", "numbers"), NUMBERS)
def test_every_database_connection_of_pymysql_is_kept_alive(mysql_url, options, numbers):
    """The same, for a driver that has no options of its own for it."""
    with rdsproxy_lib.Proxy(mysql_url, **options) as proxy, closing(proxy.connect()) as conn:
        conn.cursor().execute("select 1")
        assert told(held(proxy)) == (True, numbers)


@pytest.mark.parametrize("how", ["url", "keywords", "driver_options"])
def test_libpqs_own_options_win(url, how):
    """Those that are given; the others are ours."""
    given = {"keepalives_idle": 77, "tcp_user_timeout": 0}
    text = url + "?" + "&".join(f"{name}={value}" for name, value in given.items()) if how == "url" else url
    options = {"driver_options": given} if how == "driver_options" else {}
    keywords = given if how == "keywords" else {}
    with rdsproxy_lib.Proxy(text, **options) as proxy, proxy.connect(**keywords) as conn:
        conn.execute("select 1")
        assert told(held(proxy)) == (True, [77, 1, 3, 0])


def test_a_unix_socket_has_none_of_it(server, mysql_server):
    """Where no network is between, nothing is set, and nothing fails."""
    place = {"host": str(server.socket_dir), "port": server.port, "user": "app", "dbname": "app"}
    with (
        rdsproxy_lib.Proxy(engine="postgresql", **place, password="app-secret", monitor=True) as proxy,
        proxy.connect() as conn,
    ):
        assert conn.execute("select 1").fetchone() == (1,)
        conn.cursor().executemany("select %s", [(1,), (2,)])
        assert held(proxy).address == ""
    login = {name: mysql_server.parameters()[name] for name in ("user", "password")}
    with (
        rdsproxy_lib.Proxy(engine="mysql", host=mysql_server.socket, **login, monitor=True) as proxy,
        closing(proxy.connect()) as conn,
    ):
        conn.cursor().execute("select 1")
        assert held(proxy).address == ""


# -- what is done to a socket behind its driver's back


def test_a_socket_is_shut_down_and_not_the_one_that_got_its_number():
    """Another thread may close it amid that, and the next socket that is opened has the same descriptor."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answers = iter([ours.fileno(), -1])
        shut_down(lambda: next(answers))
        ours.send(b"still there")
        assert theirs.recv(20) == b"still there"
        shut_down(ours.fileno)
        assert theirs.recv(20) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        shut_down(ours.fileno)
    with open(os.devnull) as null:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="socket"):  # one that was pointed at nothing
            shut_down(null.fileno)
        assert len(os.listdir("/proc/self/fd")) == before, "its copy was closed"


# -- a server that does not read


ROWS, WIDTH = 2_000, 10_000
"""Twenty megabytes: more than sockets hold."""


def wait_for_the_lock(insert: Any) -> float:
    """How long it took to insert while a lock was held for 4 s; raises what it raised."""
    started = time.monotonic()
    insert()
    return time.monotonic() - started


@pytest.mark.parametrize("how", ["executemany", "pipeline", "copy"])
def test_a_server_that_waits_for_a_lock_is_not_a_dead_host(server, database, how):
    """It reads nothing on meanwhile, for longer than an acknowledgement may take: the rows arrive all the same."""
    url = server.url(dbname=database)
    with (
        rdsproxy_lib.Proxy(url, monitor=False, **TUNED) as proxy,
        psycopg.connect(url) as other,
        proxy.connect(autocommit=True) as conn,
    ):
        conn.execute("create table slow (id int primary key, text text)")
        other.execute("insert into slow values (0)")
        timer = threading.Timer(4.0, other.rollback)
        timer.start()
        rows = [(number, "x" * WIDTH) for number in range(ROWS)]

        def copy():
            with conn.cursor() as cursor, cursor.copy("copy slow from stdin") as target:
                for row in rows:
                    target.write_row(row)

        def pipe():
            with conn.pipeline():
                for row in rows:
                    conn.execute("insert into slow values (%s, %s)", row)

        inserts = {
            "executemany": lambda: conn.cursor().executemany("insert into slow values (%s, %s)", rows),
            "pipeline": pipe,
            "copy": copy,
        }
        assert wait_for_the_lock(inserts[how]) > 3.5
        timer.join()
        assert conn.execute("select count(*) from slow").fetchone() == (ROWS,)
        assert told(held(proxy))[1][-1] == 900, "and afterwards it is as it was"


def test_the_same_with_load_data(mysql_server, mysql_database, tmp_path):
    """LOAD DATA LOCAL sends a whole file, of which a server that waits for a lock reads the beginning."""
    file = tmp_path / "rows"
    file.write_text("".join(f"{number}\t{'x' * WIDTH}\n" for number in range(ROWS)))
    url = mysql_server.url(database=mysql_database) + "?local_infile=1"
    parameters = mysql_server.parameters(database=mysql_database)
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("set global local_infile = 1")
    with rdsproxy_lib.Proxy(url, monitor=False, **TUNED) as proxy, closing(pymysql.connect(**parameters)) as other:
        conn = proxy.connect(autocommit=True)
        conn.cursor().execute("create table slow (id int primary key, text text) engine=innodb")
        other.cursor().execute("insert into slow values (0, '')")
        timer = threading.Timer(4.0, other.rollback)
        timer.start()
        took = wait_for_the_lock(lambda: conn.cursor().execute(f"load data local infile '{file}' into table slow"))
        timer.join()
        assert took > 3.5
        with conn.cursor() as cursor:
            cursor.execute("select count(*) from slow")
            assert cursor.fetchone() == (ROWS,)
        assert told(held(proxy))[1][-1] == 900
        conn.close()
