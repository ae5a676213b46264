"""The audit of MySQL and MariaDB: it names what is left over, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pymysql
import pytest

from rdsproxy_lib import Proxy, StateLeaked
from rdsproxy_lib.settings import settings_of
from tests.mysql_servers import MySQLServer

SECONDS = 10.0
NAMES = ("@total", "@it`s grün", "sql_mode", "*", "")
"""What the sessions of the login are said to have named."""

AUTOCOMMIT = 2
"""The bit of the status word."""


class Audited:
    """A backend of the real engine that nobody else has."""

    def __init__(self, url: str, **options: Any) -> None:
        proxy = Proxy(url, audit=True, **options)
        self.engine = proxy.engine
        self.backend: Any = self.engine.open(proxy._login(None, None, {}), SECONDS)

    def run(self, *texts: str) -> Any:
        """Each text by itself; the rows of the last."""
        rows: Any = ()
        for text in texts:
            rows = self.engine._run(self.backend.raw, text)
        return rows

    def label(self, values: dict[str, str]) -> None:
        self.backend.label = settings_of(values, self.backend.raw.server_status & AUTOCOMMIT)

    def left_over(self) -> list[str]:
        return list(self.engine.left_over(self.backend, NAMES))


@pytest.fixture
def opened(mysql_server: MySQLServer, mysql_database: str) -> Iterator[Callable[..., Audited]]:
    """Makes one, with options of the Proxy; `parameters` are those of the URL."""
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute(f"create table {mysql_database}.items (id int primary key)")
    made: list[Audited] = []

    def open_one(parameters: dict[str, Any] | None = None, **options: Any) -> Audited:
        url = mysql_server.url(**{"database": mysql_database, **(parameters or {})})
        made.append(Audited(url, **options))
        return made[-1]

    yield open_one
    for each in made:
        each.engine.close(each.backend)


@pytest.fixture
def audited(opened: Callable[..., Audited]) -> Audited:
    return opened()


@pytest.fixture
def is_mysql(mysql_server: MySQLServer) -> bool:
    return mysql_server.kind.startswith("mysql")


def test_nothing_is_left_on_a_fresh_one(audited):
    """What a login brings is no finding, and to ask leaves nothing to be found."""
    assert audited.left_over() == []
    assert audited.left_over() == []


CHARSETS = ["setting character_set_client", "setting character_set_connection", "setting character_set_results"]
LEFT: dict[tuple[str, ...], list[str]] = {
    ("SET sql_mode = ''",): ["setting sql_mode"],
    ("SET SESSION time_zone = '+05:00', sort_buffer_size = 300000",): ["setting sort_buffer_size", "setting time_zone"],
    ("SET foreign_key_checks = 0",): ["setting foreign_key_checks"],
    ("SET sql_select_limit = 1",): ["setting sql_select_limit"],
    ("SET timestamp = 5",): ["setting timestamp"],
    ("SET NAMES latin1",): [*CHARSETS, "setting collation_connection"],
    ("USE performance_schema",): ["setting schema"],
    ("SET @total = 5", "SET @`IT``S grün` = 'x'"): ["user variable it`s grün", "user variable total"],
    ("SELECT 5 INTO @total",): ["user variable total"],
    ("SELECT @total := 5",): ["user variable total"],
    ("SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)",): ["named lock a", "named lock b"],
    ("PREPARE find_one FROM 'SELECT 1'",): ["prepared statement find_one"],
    ("LOCK TABLES items READ",): ["lock LOCK TABLES"],
    ("LOCK TABLES items WRITE",): ["lock LOCK TABLES"],
    ("SET profiling = 1", "SELECT 1", "SET profiling = 0"): ["profiles"],
}
"""Every kind of state that a query can see and both servers have; each text by itself."""


def without_databases(findings: list[str]) -> list[str]:
    """MariaDB shows the character set of the database in use as a variable."""
    return [each for each in findings if each not in ("setting character_set_database", "setting collation_database")]


@pytest.mark.parametrize("texts", LEFT, ids="; ".join)
def test_what_is_left_is_named(audited, texts):
    """Each by its kind and name; after a reset nothing is left."""
    audited.run(*texts)
    assert without_databases(audited.left_over()) == LEFT[texts]
    audited.engine.reset(audited.backend)
    assert audited.left_over() == []


def test_what_holds_a_table_or_the_server_is_named(audited, is_mysql):
    """HANDLER, and locks on everything: by what the servers call them, until they are closed."""
    audited.run("HANDLER items OPEN")
    (finding,) = audited.left_over()
    assert finding.startswith("lock TABLE test_")
    assert finding.endswith(".items")
    audited.run("HANDLER items CLOSE", "FLUSH TABLES WITH READ LOCK")
    assert audited.left_over() == (["lock COMMIT", "lock GLOBAL"] if is_mysql else ["lock BACKUP"])
    audited.run("UNLOCK TABLES")
    assert audited.left_over() == []


def test_a_temporary_table(audited, is_mysql):
    """MySQL says that there is one; MariaDB does not."""
    audited.run("CREATE TEMPORARY TABLE scratch (id int)")
    assert audited.left_over() == (["temporary tables"] if is_mysql else [])
    audited.run("DROP TEMPORARY TABLE scratch")
    assert audited.left_over() == []


def test_a_role_is_named(audited, mysql_server):
    """The one in use."""
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        with suppress(pymysql.OperationalError):
            cursor.execute("CREATE ROLE audited_helper")
        cursor.execute("GRANT audited_helper TO app@'%'")
        try:
            audited.run("SET ROLE audited_helper")
            assert audited.left_over() == ["setting role"]
            audited.run("SET ROLE NONE")
            assert audited.left_over() == []
        finally:
            cursor.execute("DROP ROLE audited_helper")


def test_a_resource_group_is_named(audited, is_mysql, mysql_server):
    """MySQL's threads may be moved to another one."""
    if not is_mysql:
        pytest.skip("MariaDB has none")
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("CREATE RESOURCE GROUP audited_batch TYPE = USER")
        try:
            cursor.execute(f"SET RESOURCE GROUP audited_batch FOR {thread_of(audited)}")
            assert audited.left_over() == ["resource group"]
        finally:
            cursor.execute("DROP RESOURCE GROUP audited_batch FORCE")


def thread_of(audited: Audited) -> int:
    question = "SELECT thread_id FROM performance_schema.threads WHERE processlist_id = CONNECTION_ID()"
    ((number,),) = audited.run(question)
    return int(number)


@pytest.mark.parametrize("texts", [("BEGIN", "SELECT * FROM items"), ("SET autocommit = 0", "SELECT * FROM items")])
def test_an_open_transaction_is_named(audited, texts):
    """Nothing is asked in it."""
    audited.run(*texts)
    assert audited.left_over() == ["transaction"]


NOT_LEFT = (
    ("SET sql_mode = ''", "SET sql_mode = DEFAULT"),
    ("SET @total = 5", "SET @total = NULL"),
    ("SELECT GET_LOCK('a', 0)", "SELECT RELEASE_LOCK('a')"),
    ("PREPARE find_one FROM 'SELECT 1'", "DEALLOCATE PREPARE find_one"),
    ("LOCK TABLES items READ", "UNLOCK TABLES"),
    ("BEGIN", "INSERT INTO items VALUES (1)", "COMMIT"),
    ("SET timestamp = 5", "SET timestamp = DEFAULT"),
    ("SELECT 1 FROM nothing_there",),
)


@pytest.mark.parametrize("texts", NOT_LEFT, ids="; ".join)
def test_what_is_over_is_not_left(audited, texts):
    """What was taken back, and what left nothing."""
    with suppress(pymysql.ProgrammingError):
        audited.run(*texts)
    assert audited.left_over() == []


NOT_SEEN = (
    ("INSERT INTO items VALUES (1)", "SELECT LAST_INSERT_ID(7)"),
    ("SELECT SQL_CALC_FOUND_ROWS 1",),
    ("SET rand_seed1 = 5",),
    ("SET insert_id = 7",),
)


@pytest.mark.parametrize("texts", NOT_SEEN, ids="; ".join)
def test_what_no_query_shows(audited, texts):
    """As the module says."""
    audited.run(*texts)
    assert audited.left_over() == []


# -- the label


def test_what_the_label_says_is_not_left(audited):
    """With that very value, as the SQL in the label gives it."""
    audited.run("SET sql_mode = 'NO_ZERO_DATE'", "SET @total = 5", "USE performance_schema", "SET NAMES latin1")
    audited.label(
        {
            "sql_mode": "'NO_ZERO_DATE'",
            "@total": "5",
            "schema": "'performance_schema'",
            "character_set_client": "'latin1'",
            "character_set_results": "'latin1'",
            "collation_connection": "'latin1_swedish_ci'",
        }
    )
    assert audited.left_over() == []


def test_what_the_label_says_wrongly_is_a_finding(audited):
    """Another value, and one that is not set at all."""
    audited.run("SET sql_mode = 'NO_ZERO_DATE'", "SET @total = 5, @word = 'a'", "PREPARE find_one FROM 'SELECT 1'")
    audited.label(
        {"sql_mode": "'NO_ZERO_IN_DATE'", "@total": "'x'", "@word": "'A'", "@never": "7", "schema": "'mysql'"}
    )
    assert audited.left_over() == [
        "prepared statement find_one",
        "label says @never",
        "label says @total",
        "label says @word",
        "label says schema",
        "label says sql_mode",
    ]


def test_autocommit_is_as_the_label_says(audited):
    """It is followed by the status word, and asking under it leaves no transaction and no lock."""
    was_on = bool(audited.backend.raw.server_status & AUTOCOMMIT)
    audited.run(f"SET autocommit = {int(not was_on)}")
    assert audited.left_over() == ["label says autocommit"]
    audited.label({})
    assert audited.left_over() == []
    assert audited.left_over() == []


def test_no_value_is_told(audited):
    """They may be secrets."""
    audited.run("SET @total = 'S3CRET'")
    audited.label({"@never": "'S3CRET'"})
    findings = audited.left_over()
    assert findings == ["user variable total", "label says @never"]


# -- what a login begins with


def test_what_the_init_query_left_is_no_finding(opened):
    """It is there on each backend; what a session did to it is one, also what is gone."""
    audited = opened(init_query="SET sort_buffer_size = 300000; SET @total = 5; PREPARE find_one FROM 'SELECT 1'")
    assert audited.left_over() == []
    audited.run("SET sort_buffer_size = DEFAULT", "SET @total = NULL", "DEALLOCATE PREPARE find_one")
    assert audited.left_over() == ["prepared statement find_one", "setting sort_buffer_size", "user variable total"]
    audited.engine.reset(audited.backend)
    assert audited.left_over() == []


def test_what_the_driver_sets_is_no_finding(opened):
    """Character set, sql_mode and init_command of the login, also after a reset."""
    audited = opened({"charset": "latin1", "sql_mode": "ANSI", "init_command": "SET @total = 5"})
    assert audited.left_over() == []
    audited.run("SET @total = 6", "SET sql_mode = ''")
    audited.engine.reset(audited.backend)
    assert audited.left_over() == []


def test_what_is_changed_for_everybody_is_no_finding(audited, mysql_server):
    """SET GLOBAL by somebody else, of what sessions have for themselves and of what they have not."""
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@global.max_connections, @@global.sort_buffer_size")
        ((connections, buffer),) = cursor.fetchall()
        cursor.execute(f"SET GLOBAL max_connections = {connections + 1}, GLOBAL sort_buffer_size = {buffer * 2}")
        try:
            assert audited.left_over() == []
            audited.run("SET sort_buffer_size = 300000")
            assert audited.left_over() == ["setting sort_buffer_size"]
        finally:
            cursor.execute(f"SET GLOBAL max_connections = {connections}, GLOBAL sort_buffer_size = {buffer}")


# -- asking


@pytest.mark.parametrize(
    "text",
    [
        "SET character_set_results = ucs2",
        "SET character_set_results = NULL",
        "SET NAMES gbk",
        "SET NAMES latin1 COLLATE latin1_bin",
        "SET collation_connection = 'utf16_general_ci'",
        "SET sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,TRADITIONAL'",
        "SET sql_select_limit = 0",
        "SET group_concat_max_len = 4, div_precision_increment = 0",
        "SET SESSION TRANSACTION READ ONLY",
    ],
)
def test_it_is_asked_under_any_setting(audited, text):
    """The question is read, and answered, the same way for every session."""
    audited.run("SET @total = 5", "SELECT GET_LOCK('a', 0)", text)
    audited.label({"@total": "5"})
    findings = audited.left_over()
    assert "named lock a" in findings
    assert "label says @total" not in findings
    assert len(findings) < 8


def test_it_is_asked_without_a_database(opened):
    """The probe for LOCK TABLES has none to ask in then."""
    audited = opened({"database": None})
    assert audited.run("SELECT DATABASE()") == ((None,),)
    assert audited.left_over() == []
    audited.run("SET @total = 5")
    assert audited.left_over() == ["user variable total"]


def test_a_plain_user_is_told_less(mysql_server, mysql_database, is_mysql):
    """Without PROCESS and performance_schema: variables that were named, locks without names, no temporary tables."""
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("CREATE USER plain@'%' IDENTIFIED BY 'plain-secret'")
        cursor.execute(f"GRANT ALL ON {mysql_database}.* TO plain@'%'")
        cursor.execute(f"CREATE TABLE {mysql_database}.items (id int)")
        try:
            audited = Audited(mysql_server.url(user="plain", password="plain-secret", database=mysql_database))
            assert audited.left_over() == []
            audited.run("SET @total = 5, @unheard = 6", "SELECT GET_LOCK('a', 0)", "SET sql_mode = ''")
            assert audited.left_over() == [
                "named lock",
                "setting sql_mode",
                "user variable total",
                *([] if is_mysql else ["user variable unheard"]),
            ]
            audited.run("CREATE TEMPORARY TABLE scratch (id int)", "PREPARE find_one FROM 'SELECT 1'")
            assert "named lock" not in audited.left_over()
            audited.run("LOCK TABLES items READ")
            assert audited.left_over() == ["lock LOCK TABLES"]
            audited.engine.close(audited.backend)
        finally:
            cursor.execute("DROP USER plain@'%'")


def test_a_dead_one_cannot_be_asked(audited, mysql_server):
    """The driver's error, and no finding."""
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute(f"KILL {audited.backend.identity}")
    with pytest.raises(pymysql.OperationalError):
        audited.left_over()


# -- through a proxy


def test_a_leak_is_told(mysql_url):
    """What no text shows is an event, with the statements since the borrow; nobody gets that backend."""
    leaks: list[Any] = []
    with Proxy(mysql_url, audit=True, max_connections=1) as proxy:
        proxy.add_event_handler(lambda event: leaks.append(event) if isinstance(event, StateLeaked) else None)
        with proxy.connect(autocommit=True) as conn, conn.cursor() as cursor:
            cursor.execute("CREATE TABLE items (id int, taken int)")
            cursor.execute(
                "CREATE TRIGGER taking BEFORE INSERT ON items FOR EACH ROW SET NEW.taken = GET_LOCK('taken', 0)"
            )
            assert leaks == []
            identity = conn.rdsproxy.backend_id
            cursor.execute("INSERT INTO items (id) VALUES (%s)", (5,))
            (leak,) = leaks
            assert leak.findings == ("named lock taken",)
            assert leak.backend_id == identity
            assert [" ".join(text.split()) for text in leak.statements] == ["INSERT INTO items (id) VALUES (?)"]
            cursor.execute("SELECT IS_USED_LOCK('taken')")
            assert cursor.fetchall() == ((None,),)
            assert conn.rdsproxy.backend_id != identity


def test_what_is_taken_along_is_no_leak(mysql_url):
    """Settings of two sessions over one backend, a session that was pinned and is no more, one that closed pinned."""
    leaks: list[Any] = []
    with Proxy(mysql_url, audit=True, max_connections=1) as proxy:
        proxy.add_event_handler(lambda event: leaks.append(event) if isinstance(event, StateLeaked) else None)
        run = partial(proxy.connect, autocommit=True)
        with run() as one, run() as other, one.cursor() as first, other.cursor() as second:
            for number, cursor in enumerate((first, second)):
                cursor.execute("SET @total = %s", (number,))
                cursor.execute(f"SET sort_buffer_size = {300000 + number}")
            for number, cursor in enumerate((first, second, first)):
                cursor.execute("SELECT @total, @@sort_buffer_size - 300000")
                assert cursor.fetchall() == ((number % 2, number % 2),)
            first.execute("CREATE TEMPORARY TABLE scratch (id int)")
            first.execute("DROP TEMPORARY TABLE scratch")
        with run() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK('a', 0)")
        with run() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT @total")
            assert cursor.fetchall() == ((None,),)
    assert leaks == []
