"""The audit of PostgreSQL: it names what is left over, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from rdsproxy_lib import Proxy, StateLeaked
from rdsproxy_lib.settings import settings_of
from tests.servers import SUPERUSER, PostgresServer

SECONDS = 10.0
NAMES = ("app.tenant", "app.grün", "app.it's", "work_mem", "*", "")
"""What the sessions of the login are said to have named; some of it is no name of a custom setting."""


class Audited:
    """A backend of the real engine that nobody else has."""

    def __init__(self, url: str, **options: Any) -> None:
        proxy = Proxy(url, audit=True, **options)
        self.engine = proxy.engine
        self.backend: Any = self.engine.open(proxy._login(None, None, {}), SECONDS)

    def run(self, text: str) -> list[Any]:
        with self.backend.raw.cursor() as cursor:
            cursor.execute(text, prepare=False)
            return cursor.fetchall() if cursor.description else []

    def left_over(self) -> list[str]:
        return list(self.engine.left_over(self.backend, NAMES))


@pytest.fixture
def opened(database: str, server: PostgresServer) -> Iterator[Callable[..., Audited]]:
    """Makes one, with options of the Proxy; `user` and `parameters` are those of the URL."""
    made: list[Audited] = []

    def open_one(user: str = "app", parameters: dict[str, str] | None = None, **options: Any) -> Audited:
        made.append(Audited(server.url(dbname=database, user=user, **(parameters or {})), **options))
        return made[-1]

    yield open_one
    for each in made:
        each.engine.close(each.backend)


@pytest.fixture
def audited(opened: Callable[..., Audited]) -> Audited:
    return opened()


def test_nothing_is_left_on_a_fresh_one(audited):
    """What a login brings is no finding, and to ask leaves nothing to be found."""
    assert audited.left_over() == []
    assert audited.left_over() == []


LEFT = {
    "SET work_mem = '5MB'": ["setting work_mem"],
    "SET TIME ZONE 'Asia/Tokyo'": ["setting timezone"],
    "SET datestyle = 'German'": ["setting datestyle"],
    "SET search_path = app, pg_catalog": ["setting search_path"],
    "SET application_name = 'shop'": ["setting application_name"],
    "SELECT set_config('work_mem', '5MB', false)": ["setting work_mem"],
    "DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$": ["setting work_mem"],
    "SET app.tenant = '7'": ["setting app.tenant"],
    "SELECT set_config('app.grün', '7', false)": ["setting app.grün"],
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": ["setting default_transaction_read_only"],
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE": [
        "setting default_transaction_deferrable",
        "setting default_transaction_isolation",
        "setting default_transaction_read_only",
    ],
    "LISTEN news": ["channel news"],
    "CREATE TEMP TABLE scratch (id serial primary key, note text)": [
        "temporary sequence scratch_id_seq",
        "temporary table scratch",
    ],
    "CREATE TEMP VIEW list AS SELECT 1 AS id": ["temporary view list"],
    "CREATE TEMP SEQUENCE numbers": ["temporary sequence numbers"],
    "CREATE TYPE pg_temp.mood AS ENUM ('sad')": ["temporary type mood"],
    "CREATE DOMAIN pg_temp.positive AS int": ["temporary type positive"],
    'CREATE COLLATION pg_temp.german FROM "C"': ["temporary collation german"],
    "BEGIN; DECLARE items CURSOR WITH HOLD FOR SELECT 1; COMMIT": ["cursor items"],
    "PREPARE find_one AS SELECT 1": ["prepared statement find_one"],
    "BEGIN; PREPARE find_one AS SELECT 1; ROLLBACK": ["prepared statement find_one"],
    "SELECT pg_advisory_lock(7)": ["advisory lock 0/7/1/ExclusiveLock"],
    "SELECT pg_advisory_lock_shared(1, 2)": ["advisory lock 1/2/2/ShareLock"],
    "BEGIN; SELECT pg_advisory_lock(7); ROLLBACK": ["advisory lock 0/7/1/ExclusiveLock"],
    "SET work_mem = '5MB'; LISTEN news": ["channel news", "setting work_mem"],
}
"""Every kind of state that a query can see, but for what needs a superuser."""


@pytest.mark.parametrize("text", LEFT)
def test_what_is_left_is_named(audited, text):
    """Each by its kind and name; after a reset nothing is left."""
    audited.run(text)
    assert audited.left_over() == LEFT[text]
    assert audited.left_over() == LEFT[text]
    audited.engine.reset(audited.backend)
    assert audited.left_over() == []


LEFT_BY_SUPERUSERS = {
    "SET ROLE app": ["setting role"],
    "SET SESSION AUTHORIZATION app": ["setting session_authorization"],
    "SET session_replication_role = 'replica'": ["setting session_replication_role"],
    "SELECT pg_create_physical_replication_slot('mine', true, true)": ["temporary replication slot mine"],
}


@pytest.mark.parametrize("text", LEFT_BY_SUPERUSERS)
def test_what_a_superuser_leaves_is_named(opened, text):
    """The same for what not everybody may do."""
    audited = opened(user=SUPERUSER)
    assert audited.left_over() == []
    audited.run(text)
    assert audited.left_over() == LEFT_BY_SUPERUSERS[text]


def test_a_temporary_function_is_named(audited):
    """With the number of the schema, as functions have no name of their own."""
    audited.run("CREATE FUNCTION pg_temp.total() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    (finding,) = audited.left_over()
    assert finding.startswith("temporary function pg_temp_")
    assert finding.endswith(".total()")


@pytest.mark.parametrize("text", ["BEGIN", "BEGIN; SET LOCAL work_mem = '5MB'"])
def test_an_open_transaction_is_named(audited, text):
    """Nothing is asked in it."""
    audited.run(text)
    assert audited.left_over() == ["transaction"]
    audited.run("SELECT 1")


def test_a_failed_transaction_is_named(audited):
    """Where nothing could be asked."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        audited.run("BEGIN; SELECT 1 / 0")
    assert audited.left_over() == ["transaction"]


NOT_LEFT = (
    "SET work_mem = '5MB'; RESET work_mem",
    "SET work_mem = '4MB'",
    "SET app.tenant = '7'; RESET app.tenant",
    "SET app.tenant = ''",
    "SET app.tenant = '7'; DISCARD ALL",
    "BEGIN; SET work_mem = '5MB'; SET app.tenant = '7'; ROLLBACK",
    "BEGIN; SET LOCAL work_mem = '5MB'; SET LOCAL app.tenant = '7'; COMMIT",
    "BEGIN; LISTEN news; ROLLBACK",
    "LISTEN news; UNLISTEN *",
    "CREATE TEMP TABLE scratch (id int); DROP TABLE scratch",
    "BEGIN; CREATE TEMP TABLE scratch (id int) ON COMMIT DROP; COMMIT",
    "SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)",
    "BEGIN; SELECT pg_advisory_xact_lock(7); COMMIT",
    "BEGIN; DECLARE items CURSOR FOR SELECT 1; COMMIT",
    "BEGIN; SET TRANSACTION READ ONLY; COMMIT",
    "NOTIFY news",
)


@pytest.mark.parametrize("text", NOT_LEFT)
def test_what_is_over_is_not_left(audited, text):
    """What the transaction took along, and what was taken back."""
    for part in text.split("; ") if "DISCARD" in text else [text]:  # which is for no transaction block
        audited.run(part)
    assert audited.left_over() == []


NOT_SEEN = (
    "SELECT setseed(0.5)",
    "CREATE SEQUENCE numbers; SELECT nextval('numbers')",
    "SET app.unheard = '7'",
    "DO $$ BEGIN END $$",
)


@pytest.mark.parametrize("text", NOT_SEEN)
def test_what_no_query_shows(audited, text):
    """As the module says; of custom settings those that nobody named."""
    audited.run(text)
    assert audited.left_over() == []


def test_the_drivers_own_prepared_statements_are_not_left(audited):
    """They are the database connection's."""
    audited.backend.raw.execute("SELECT 1", prepare=True)
    assert audited.run("SELECT count(*) FROM pg_prepared_statements") == [(1,)]
    assert audited.left_over() == []


# -- the label


def test_what_the_label_says_is_not_left(audited):
    """With that very value, as the server spells it."""
    audited.run("SET work_mem = 5000; SET app.tenant = '7'; SET TIME ZONE 'Asia/Tokyo'; SET datestyle = German")
    audited.backend.label = settings_of(
        {"work_mem": "5000kB", "app.tenant": "7", "timezone": "Asia/Tokyo", "datestyle": "German, DMY"}
    )
    assert audited.left_over() == []


def test_what_the_label_says_wrongly_is_a_finding(audited):
    """Another value, and one that is not set at all."""
    audited.run("SET work_mem = '5MB'; SET app.tenant = '7'; LISTEN news")
    audited.backend.label = settings_of(
        {"work_mem": "6MB", "app.tenant": "8", "app.never": "9", "datestyle": "German, DMY", "search_path": "public"}
    )
    assert audited.left_over() == [
        "channel news",
        "label says app.never",
        "label says app.tenant",
        "label says datestyle",
        "label says search_path",
        "label says work_mem",
    ]


def test_an_empty_custom_setting_is_as_good_as_none(audited):
    """No SQL can tell a backend to forget that it ever had one."""
    audited.backend.label = settings_of({"app.tenant": ""})
    assert audited.left_over() == []
    audited.run("SET app.tenant = ''")
    assert audited.left_over() == []


def test_a_role_in_the_label(opened):
    """Role and authorization are told like any other setting."""
    audited = opened(user=SUPERUSER)
    audited.run("SET SESSION AUTHORIZATION app")
    audited.backend.label = settings_of({"session_authorization": "app", "is_superuser": "off"})
    assert audited.left_over() == []
    audited.run("SET ROLE app")
    assert audited.left_over() == ["setting role"]
    audited.backend.label = settings_of({"session_authorization": "app", "is_superuser": "off", "role": "app"})
    assert audited.left_over() == []


def test_no_value_is_told(audited):
    """They may be secrets."""
    audited.run("SET app.tenant = 'S3CRET'; SET application_name = 'S3CRET'; SET search_path = 'S3CRET'")
    audited.backend.label = settings_of({"app.tenant": "S3CRET too"})
    findings = audited.left_over()
    assert len(findings) == 3
    assert "S3CRET" not in str(findings)


# -- what a login begins with


def test_what_the_init_query_left_is_no_finding(opened):
    """It is there on each backend; what a session did to it is one, also what is gone."""
    audited = opened(
        init_query="SET work_mem = '5MB'; SET app.tenant = 'first'; LISTEN jobs; CREATE TEMP TABLE own (id int)"
    )
    assert audited.left_over() == []
    audited.run("RESET work_mem; SET app.tenant = 'second'; UNLISTEN jobs; DROP TABLE own; LISTEN news")
    assert audited.left_over() == [
        "channel jobs",
        "channel news",
        "setting app.tenant",
        "setting work_mem",
        "temporary table own",
    ]
    audited.engine.reset(audited.backend)
    assert audited.left_over() == []


def test_what_a_role_begins_with_is_no_finding(opened, server, database):
    """ALTER ROLE … SET, in pg_settings or not."""
    with server.admin() as admin:
        admin.execute(f"ALTER ROLE app IN DATABASE {database} SET app.tenant = 'first'")
        admin.execute(f"ALTER ROLE app IN DATABASE {database} SET work_mem = '5MB'")
    audited = opened()
    assert audited.run("SHOW app.tenant") == [("first",)]
    assert audited.left_over() == []
    audited.run("SET app.tenant = 'second'; SET work_mem = '4MB'")
    assert audited.left_over() == ["setting app.tenant", "setting work_mem"]
    audited.run("SET app.tenant = ''; RESET work_mem")
    assert audited.left_over() == ["setting app.tenant"]


def test_what_a_login_asks_for_is_no_finding(opened):
    """The options at start-up."""
    audited = opened(parameters={"options": "-c app.tenant=first -c work_mem=5MB -c timezone=Asia/Tokyo"})
    assert audited.run("SHOW app.tenant") == [("first",)]
    assert audited.left_over() == []
    audited.run("SET app.tenant = 'second'")
    assert audited.left_over() == ["setting app.tenant"]


# -- asking


def test_to_ask_changes_nothing(audited):
    """Settings keep their values and where they came from; what was never set stays so."""
    audited.run("SET work_mem = '5MB'; SET app.tenant = '7'")
    question = (
        "SELECT current_setting('work_mem'), (SELECT source FROM pg_settings WHERE name = 'work_mem'),"
        " current_setting('app.tenant'), current_setting('app.grün', true)"
    )
    before = audited.run(question)
    assert before == [("5MB", "session", "7", None)]
    audited.left_over()
    assert audited.run(question) == before


@pytest.mark.parametrize(
    "text",
    [
        "SET client_encoding = 'LATIN1'",
        "SET client_encoding = 'SQL_ASCII'",
        "SET standard_conforming_strings = off; SET backslash_quote = off",
        "SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on",
        "SET bytea_output = 'escape'; SET quote_all_identifiers = on",
    ],
)
def test_it_is_asked_under_any_setting(audited, text):
    """The question is read the same way by every session."""
    audited.run("SELECT set_config('app.grün', '7', false)")
    audited.run(text)
    assert "setting app.grün" in audited.left_over()


def test_operators_of_the_session_are_not_used(audited):
    """A search_path may hold operators that answer anything."""
    audited.run("CREATE SCHEMA evil")
    audited.run(
        "CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'asked'; END $$;"
        "CREATE FUNCTION evil.no(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'asked'; END $$;"
        "CREATE FUNCTION evil.no(name, name) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'asked'; END $$;"
        "CREATE FUNCTION evil.no(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'asked'; END $$;"
        + "".join(
            f"CREATE OPERATOR evil.{name} (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = evil.no);"
            for name in ("=", "<>")
            for kind in ("text", "oid", "name", "int")
        )
    )
    audited.run("SET search_path = evil, pg_catalog; SET app.tenant = '7'; SET work_mem = '5MB'")
    with pytest.raises(psycopg.errors.RaiseException):
        audited.run("SELECT 'a'::text = 'a'::text")
    assert audited.left_over() == ["setting app.tenant", "setting search_path", "setting work_mem"]


def test_a_dead_one_cannot_be_asked(audited, server):
    """The driver's error, and no finding."""
    with server.admin() as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [audited.backend.identity])
    with pytest.raises(psycopg.OperationalError):
        audited.left_over()


# -- through a proxy


def test_a_leak_is_told(url):
    """What no text shows is an event and an error in the log, with the statements since the borrow; nobody gets it."""
    leaks: list[Any] = []
    with Proxy(url, audit=True, max_connections=1) as proxy:
        proxy.add_event_handler(leaks.append)
        with proxy.connect(autocommit=True) as conn:
            conn.execute("CREATE VIEW setter AS SELECT set_config('work_mem', '5MB', false)")
            assert leaks == []
            identity = conn.rdsproxy.backend_id
            conn.execute("SELECT * FROM setter WHERE 'S3CRET' <> ''")
            assert leaks == [StateLeaked(("setting work_mem",), ("SELECT * FROM setter WHERE ? <> ?",), identity)]
            assert conn.execute("SHOW work_mem").fetchone() == ("4MB",)
            assert conn.rdsproxy.backend_id != identity


def test_a_transaction_is_audited_when_it_is_over(url):
    """All its statements are told."""
    leaks: list[Any] = []
    with Proxy(url, audit=True) as proxy, proxy.connect() as conn:
        proxy.add_event_handler(leaks.append)
        conn.execute("CREATE VIEW setter AS SELECT set_config('work_mem', '5MB', false)")
        conn.execute("SELECT * FROM setter")
        conn.execute("SELECT 1")
        assert leaks == []
        conn.commit()
        (leak,) = leaks
        assert leak.statements[-2:] == ("SELECT * FROM setter", "SELECT ?")


def test_what_is_taken_along_is_no_leak(url):
    """Settings of two sessions over one backend, a session that was pinned and is no more, one that closed pinned."""
    leaks: list[Any] = []
    with Proxy(url, audit=True, max_connections=1) as proxy:
        proxy.add_event_handler(lambda event: leaks.append(event) if isinstance(event, StateLeaked) else None)
        run = partial(proxy.connect, autocommit=True)
        with run() as one, run() as other:
            for number, conn in enumerate((one, other)):
                conn.execute("SELECT set_config('app.tenant', %s, false)", [str(number)])
                conn.execute(f"SET work_mem = '{5 + number}MB'")
            for number, conn in enumerate((one, other, one)):
                assert conn.execute("SHOW app.tenant").fetchone() == (str(number % 2),)
            one.execute("CREATE TEMP TABLE scratch (id int)")
            one.execute("DROP TABLE scratch")
            other.execute("RESET ALL")
        with run() as conn:
            conn.execute("LISTEN news")
        with run() as conn:
            assert conn.execute("SHOW work_mem").fetchone() == ("4MB",)
    assert leaks == []
