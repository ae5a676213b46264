"""Programs for PostgreSQL: each way to set state with each way in which it can go on, and stories of their own.

A way more is a row of WAYS, an ending more a row of ENDINGS, a story more a row of STORIES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.differential.postgresql import AUTOCOMMIT, act, run
from tests.differential.program import Action, Program, Step
from tests.servers import SUPERUSER

# What values do ----------------------------------------------------------------------------------------------

VALUES: Mapping[str, tuple[str, str, str]] = {
    "timezone": ("Asia/Tokyo", "Europe/Paris", "America/New_York"),
    "datestyle": ("German", "SQL, DMY", "Postgres, MDY"),
    "intervalstyle": ("iso_8601", "sql_standard", "postgres_verbose"),
    "bytea_output": ("escape", "hex", "escape"),
    "extra_float_digits": ("-3", "0", "-7"),
    "client_encoding": ("latin1", "win1252", "latin9"),
    "client_min_messages": ("warning", "error", "debug1"),
    "work_mem": ("5000", "6MB", "7000kB"),
    "statement_timeout": ("61s", "62000", "1min 3s"),
    "application_name": ("shop 0", "shop 1", "shop 2"),
    "row_security": ("off", "on", "off"),
    "array_nulls": ("off", "on", "off"),
    "transform_null_equals": ("on", "off", "on"),
    "default_transaction_isolation": ("serializable", "repeatable read", "read uncommitted"),
    "default_transaction_read_only": ("on", "off", "on"),
    "default_transaction_deferrable": ("on", "off", "on"),
    "xmloption": ("document", "content", "document"),
    "plan_cache_mode": ("force_generic_plan", "force_custom_plan", "auto"),
    "app.tenant_id": ("tenant 0", "tenant 1", "tenant 2"),
    "app.actor": ("anna", "it's \\ ben", "çağla"),
}
"""For each setting one value per session."""
MORE_VALUES: Mapping[str, tuple[str, str, str]] = {
    "search_path": ("s0, public", "s1", "s2"),
    "role": ("reader_0", "reader_1", "writer"),
    "session_authorization": ("reader_0", "reader_1", "app"),
    "standard_conforming_strings": ("off", "on", "off"),
    "log_statement": ("all", "mod", "ddl"),
}
"""Those that are not set as the others are."""
_ALL_VALUES = {**VALUES, **MORE_VALUES}

PROBES: Mapping[str, tuple[str, ...]] = {
    "timezone": ("select timestamptz '2024-07-01 12:00+00', (timestamptz '2024-07-01 12:00+00')::text",),
    "datestyle": ("select '02/03/2024'::date::text, date '2024-07-01'", "select timestamp '2024-07-01 12:00'"),
    "intervalstyle": ("select (interval '1 day 02:03:04')::text", "select interval '1 day 02:03:04'"),
    "bytea_output": (r"select '\x00ff'::bytea, ('\x00ff'::bytea)::text",),
    "extra_float_digits": ("select 1/3::float8, (1/3::float8)::text",),
    "search_path": ("select name from place",),
    "client_encoding": ("select 'é', octet_length('é')", "select chr(8364)", "select 'é' as \"é\""),
    "client_min_messages": ("select note('é')", "select note_debug('x')"),
    "row_security": ("select word from tenants",),
    "array_nulls": ("select '{NULL,1}'::text[]",),
    "transform_null_equals": ("select null = null", "select count(*) from place where name = null"),
    "default_transaction_isolation": ("show transaction_isolation",),
    "default_transaction_read_only": (
        "show transaction_read_only",
        "insert into numbers_0 (word) values ('probe') returning id",
    ),
    "default_transaction_deferrable": ("show transaction_deferrable",),
    "xmloption": ("select xml '<a/><b/>'",),
    "app.tenant_id": ("select word from tenants",),
    "role": ("select current_user, session_user", "select count(*) from items_0"),
    "session_authorization": ("select current_user, session_user", "select count(*) from items_0"),
    "standard_conforming_strings": (r"select 'a\\b', E'a\\b'",),
}
"""Statements whose answers depend on a setting; the looks alone show what is not here."""


PREPARED_PROBES: Mapping[str, tuple[str, str]] = {
    "datestyle": ("select %s::date::text", "02/03/2024"),
    "extra_float_digits": ("select %s::float8::text", "0.123456789012345678"),
    "transform_null_equals": ("select %s is null", "x"),
    "standard_conforming_strings": ("select %s", r"a\b"),
}
"""Without literals that a setting gives their meaning. A prepared statement keeps that meaning on a private
connection, whatever is set later, and here it may be prepared anew: see DECLARED."""


def probes(name: str) -> list[Action]:
    """What shows a setting at work."""
    return [run(text) for text in PROBES.get(name, ("select 1",))]


def prepared_probes(name: str) -> list[Action]:
    """The same as prepared statements of the driver."""
    if name in PREPARED_PROBES:
        text, value = PREPARED_PROBES[name]
        return [act("execute", text, [value], True)]
    return [act("execute", text, None, True) for text in PROBES.get(name, ("select 1",))]


# Ways to set something ---------------------------------------------------------------------------------------

_SUPER: Mapping[str, Any] = {"user": SUPERUSER}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to set something, or to try. `{v}` in texts and parameters is the session's value."""

    text: str
    touches: str
    """The names. The probes and the values are for the first."""
    params: tuple[Any, ...] | Mapping[str, Any] | None = None
    pins: str = ""
    login: Mapping[str, Any] | None = None
    values: tuple[str, str, str] | None = None

    @property
    def name(self) -> str:
        return self.touches.split()[0]

    def __str__(self) -> str:
        who = " as superuser" if self.login else ""
        return " ".join(f"{self.text} {self.params or ''}{who}".split())

    def __call__(self, at: int) -> Action:
        """With the value number `at`."""
        value = (self.values or _ALL_VALUES.get(self.name, ("0", "1", "2")))[at]
        arguments: tuple[Any, ...] = (self.text.replace("{v}", value.replace("'", "''")),)
        if isinstance(self.params, Mapping):
            arguments += ({key: each.replace("{v}", value) for key, each in self.params.items()},)
        elif self.params is not None:
            arguments += ([each.replace("{v}", value) if isinstance(each, str) else each for each in self.params],)
        return Action("execute", arguments, tuple(self.touches.split()), tuple(self.pins.split()))


EVERYTHING = "timezone datestyle search_path app.tenant_id work_mem role"
_CHARACTERISTICS = "default_transaction_isolation default_transaction_read_only default_transaction_deferrable"
_LEVELS = VALUES["default_transaction_isolation"]

WAYS = (
    *(Way(f"set {name} to '{{v}}'", name) for name in VALUES),
    Way("set search_path to {v}", "search_path"),
    Way("SET SESSION TimeZone = '{v}'", "timezone"),
    Way("set \"TimeZone\" to '{v}'", "timezone"),
    Way("/* a comment */ set -- another\n timezone to '{v}';", "timezone"),
    Way("set time zone '{v}'", "timezone"),
    Way("set time zone {v}", "timezone", values=("-3", "5.5", "7")),
    Way("set time zone interval '{v}' hour to minute", "timezone", values=("+05:30", "-03:00", "+00:15")),
    Way("set time zone local", "timezone"),
    Way("set time zone default", "timezone"),
    Way("set names '{v}'", "client_encoding"),
    Way("set schema '{v}'", "search_path", values=("s0", "s1", "s2")),
    Way("set search_path to pg_temp, {v}", "search_path", pins="TEMP_TABLE", values=("s0", "s1", "s2")),
    Way("set datestyle to {v}", "datestyle", values=("dmy", "ymd", "mdy")),
    Way("set datestyle to '{v}'", "datestyle", values=("iso", "sql", "german")),
    Way("set xml option {v}", "xmloption"),
    Way("set role {v}", "role"),
    Way("set session role '{v}'", "role"),
    Way("set role none", "role"),
    Way("reset role", "role"),
    Way("set session authorization {v}", "session_authorization role", login=_SUPER),
    Way("set session authorization '{v}'", "session_authorization role"),  # an ordinary user may only be itself
    Way("reset session authorization", "session_authorization role"),
    Way("set log_statement to '{v}'", "log_statement", login=_SUPER),
    Way("set log_statement to '{v}'", "log_statement"),
    Way("set standard_conforming_strings to {v}", "standard_conforming_strings", pins="SETTING UNRESETTABLE"),
    Way("set local timezone to '{v}'", "timezone"),
    Way("set local search_path to {v}", "search_path"),
    Way("set local role {v}", "role"),
    Way("select set_config('timezone', '{v}', false)", "timezone"),
    Way("select set_config('timezone', '{v}', true)", "timezone"),
    Way("select set_config('app.tenant_id', '{v}', false)", "app.tenant_id"),
    Way("select pg_catalog.set_config('search_path', '{v}', false)", "search_path"),
    Way("select set_config('role', '{v}', false)", "role"),
    Way("select set_config('timezone', %s, false)", "timezone", ("{v}",)),
    Way("select set_config(%s, %s, false)", "app.tenant_id", ("app.tenant_id", "{v}")),
    Way("select set_config(%s, %s, %s)", "timezone", ("TimeZone", "{v}", False)),
    Way("select set_config(%s, %s, %s)", "app.actor", ("app.actor", "{v}", True)),
    Way("select set_config(%(name)s, %(value)s, false)", "datestyle", {"name": "datestyle", "value": "{v}"}),
    Way(
        "select set_config(%s, %s, false), set_config(%s, %s, false)",
        "timezone app.actor",
        ("timezone", "{v}", "app.actor", "both"),
    ),
    Way("with it as (select set_config('app.tenant_id', '{v}', false)) select * from it", "app.tenant_id"),
    Way(
        "with it as materialized (select set_config(%s, %s, false)) select 1 from it",
        "app.tenant_id",
        ("app.tenant_id", "{v}"),
    ),
    Way("update items_0 set word = '{v}' where id = 0 returning set_config('app.actor', word, false)", "app.actor"),
    Way("insert into numbers_0 (word) values ('{v}') returning set_config('timezone', word, false)", "timezone"),
    Way("select 1 where set_config('work_mem', '{v}', false) <> ''", "work_mem"),
    Way("select case when false then set_config('app.actor', '{v}', false) end", "app.actor"),
    Way("select set_config('app.actor', null, false)", "app.actor"),
    Way(
        "select set_config(name, '{v}', false) from (values ('app.actor')) names (name)",
        "app.actor",
        pins="SETTING UNRESETTABLE",
    ),
    Way("select set_config('app.' || 'actor', '{v}', false)", "app.actor", pins="SETTING UNRESETTABLE"),
    Way("update pg_settings set setting = '{v}' where name = 'TimeZone'", "timezone", pins="SETTING"),
    # A body with a backslash in it is read in both ways that there are, and pins where they differ.
    Way("do $$ begin perform set_config('app.actor', '{v}', false); end $$", "app.actor", pins="UNKNOWN_ROUTINE"),
    Way("select sets('{v}')", "app.actor"),
    Way("select sets_here('{v}')", "app.actor"),
    Way("call sets_and_commits('{v}')", "app.actor"),
    Way("set session characteristics as transaction isolation level {v}", "default_transaction_isolation"),
    Way("set session characteristics as transaction read only", "default_transaction_read_only"),
    Way("set session characteristics as transaction isolation level {v}, read only, deferrable", _CHARACTERISTICS),
    Way(
        "set transaction isolation level {v}",
        "transaction_isolation default_transaction_isolation",
        values=_LEVELS,
    ),
    Way("set transaction read only", "transaction_read_only default_transaction_read_only"),
    Way("set constraints all immediate", "timezone"),
    Way("set timezone to '{v}'; set app.actor to 'two'", "timezone app.actor"),
    Way("set app.actor to '{v}'; reset timezone; set datestyle to german", "app.actor timezone datestyle"),
    Way("begin; set timezone to '{v}'; commit", "timezone"),
    Way("begin; set timezone to '{v}'; rollback", "timezone"),
    Way("begin; set local app.actor to '{v}'; commit", "app.actor"),
    Way("set timezone to '{v}'; begin; set app.actor to '{v}'; rollback and chain; commit", "timezone app.actor"),
    Way("set timezone to '{v}'; select 1/0", "timezone"),
    Way("set timezone to '{v}'; commit; select 1/0", "timezone"),
    Way("set timezone to default", "timezone"),
    Way("reset timezone", "timezone"),
    Way("reset app.tenant_id", "app.tenant_id"),
    Way("reset all", EVERYTHING),
    Way("discard all", EVERYTHING),
    Way("discard plans", "timezone"),
    Way("discard temp", "timezone"),
    Way("discard sequences", "timezone"),
    Way("set timezone to 'Nowhere/{v}'", "timezone"),
    Way("set work_mem to 'lots'", "work_mem"),
    Way("set nothing_of_ours to '{v}'", "timezone"),
    Way("set role nobody_we_know", "role"),
    Way("select set_config('datestyle', 'Klingon', false)", "datestyle"),
    Way("select set_config(%s, %s, false)", "timezone", ("timezone", "Nowhere/{v}")),
    Way("set app.tenant_id", "app.tenant_id"),  # a syntax error
    Way("set client_encoding to 'klingon'", "client_encoding"),
)

# What happens then -------------------------------------------------------------------------------------------

Made = Iterator[tuple[int, Action]]
Sets = Callable[[int], Action]

COMMIT, ROLLBACK, BEGIN = act("commit"), act("rollback"), run("begin")
FAIL = run("select 1/0")


def _asked(session: int, asks: list[Action]) -> Made:
    for ask in asks:
        yield session, ask


def _autocommit(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _two_at_once(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 1, sets(1)
    yield from _asked(0, asks)
    yield from _asked(1, asks)
    yield 0, sets(2)
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _commit(sets: Sets, asks: list[Action]) -> Made:
    yield from _asked(0, asks)
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, COMMIT
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _rollback(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(2)
    yield 0, COMMIT
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, ROLLBACK
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _open_at_once(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 1, sets(1)
    yield from _asked(0, asks)
    yield from _asked(1, asks)
    yield 0, ROLLBACK
    yield 1, COMMIT
    yield from _asked(0, asks)
    yield from _asked(1, asks)


def _savepoint(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, sets(2)
    yield 0, run("savepoint one")
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, run("rollback to one")
    yield from _asked(0, asks)
    yield 0, run("savepoint two")
    yield 0, sets(1)
    yield 0, run("release two")
    yield 0, run("commit")
    yield from _asked(0, asks)


def _savepoint_undone(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(2)
    yield 0, run("begin; savepoint one")
    yield 0, sets(0)
    yield 0, run("rollback to one; commit")
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _error(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(2)
    yield 0, COMMIT
    yield 0, sets(0)
    yield 0, FAIL
    yield from _asked(0, asks)
    yield 0, COMMIT  # which is a rollback
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _error_after_savepoint(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(2)
    yield 0, run("savepoint one")
    yield 0, sets(0)
    yield 0, FAIL
    yield 0, run("rollback to savepoint one")
    yield from _asked(0, asks)
    yield 0, COMMIT
    yield from _asked(0, asks)


def _failed_commit(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 0, run("insert into later_0 values (1), (1)")
    yield from _asked(0, asks)
    yield 0, COMMIT
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _disconnect(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 0, COMMIT
    yield 0, act("reopen")
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _disconnect_amid(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, act("close")
    yield from _asked(1, asks)
    yield from _asked(0, asks)
    yield 0, act("reopen")
    yield from _asked(0, asks)


def _nextset(sets: Sets, asks: list[Action]) -> Made:
    (text,), ask = sets(0).arguments[:1], asks[0].arguments[0]
    yield 1, sets(1) if len(sets(1).arguments) == 1 else run("select 1")
    if len(sets(0).arguments) == 1:
        between = Action("start", (f"{ask}; {text}; {ask}; select 'last'",), sets(0).touches, sets(0).pins)
        yield 0, between
    else:
        yield 0, sets(0)
        yield 0, act("start", f"{ask}; {ask}")
    yield from _asked(1, asks)
    yield 0, act("fetch")
    yield 0, act("nextset")
    yield from _asked(1, asks)
    yield 0, act("nextset")
    yield 0, act("nextset")
    yield 0, COMMIT
    yield from _asked(0, asks)


def _blocks(sets: Sets, asks: list[Action]) -> Made:
    yield 0, act("enter")
    yield 0, sets(0)
    yield 0, act("enter")
    yield 0, sets(1)
    yield from _asked(0, asks)
    yield 0, act("leave", "error")
    yield from _asked(0, asks)
    yield 0, act("enter", "named")
    yield 0, sets(2)
    yield 0, act("leave")
    yield 0, act("leave")
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _blocks_undone(sets: Sets, asks: list[Action]) -> Made:
    yield 0, act("enter", None, True)
    yield 0, sets(0)
    yield 0, act("leave")
    yield from _asked(0, asks)
    yield 0, act("enter")
    yield 0, sets(1)
    yield 0, FAIL
    yield 0, act("leave", "error")
    yield from _asked(1, asks)
    yield from _asked(0, asks)


def _reset(sets: Sets, asks: list[Action]) -> Made:
    name = sets(0).touches[0]
    yield 0, sets(0)
    yield 0, BEGIN
    yield 0, run(f"reset {name}", touches=name)
    yield from _asked(0, asks)
    yield 0, ROLLBACK
    yield from _asked(0, asks)
    yield 0, run(f"reset {name}", touches=name)
    yield from _asked(0, asks)
    yield 0, run("reset all", touches=name)
    yield from _asked(0, asks)


def _discard(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 1, sets(1)
    yield 0, run("discard all", touches=sets(0).touches[0])
    yield from _asked(0, asks)
    yield from _asked(1, asks)


def _two_phase(sets: Sets, asks: list[Action]) -> Made:
    yield 0, act("two_phase", "tpc_begin", "one")
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, act("two_phase", "tpc_prepare")
    yield 0, act("two_phase", "tpc_commit")
    yield from _asked(0, asks)
    yield 0, act("two_phase", "tpc_begin", "two")
    yield 0, sets(1)
    yield 0, act("two_phase", "tpc_rollback")
    yield from _asked(0, asks)


def _prepared(sets: Sets, asks: list[Action]) -> Made:
    asks = prepared_probes(sets(0).touches[0])
    yield from _asked(1, asks)
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield from _asked(1, asks)
    yield 0, sets(2)
    yield from _asked(0, asks)


def _pipeline(sets: Sets, asks: list[Action]) -> Made:
    action = sets(0)
    if len(action.arguments) == 1:
        # Whether a value in the same pipeline is loaded before or after the driver hears of a new setting is chance.
        texts = [action.arguments[0], f"select nullif(current_setting('{action.touches[0]}', true), '')"]
        yield 0, Action("pipeline", tuple(texts), action.touches, action.pins)
        yield from _asked(1, asks)
        yield from _asked(0, asks)
        yield 0, Action("pipeline", (texts[0], "select 1/0", texts[1]), action.touches, action.pins)
        yield 0, ROLLBACK
        yield from _asked(0, asks)


Ending = Callable[[Sets, list[Action]], Made]
ENDINGS: Mapping[str, tuple[Ending, bool]] = {
    "autocommit": (_autocommit, True),
    "two at once": (_two_at_once, True),
    "commit": (_commit, False),
    "rollback": (_rollback, False),
    "open at once": (_open_at_once, False),
    "savepoint": (_savepoint, True),
    "savepoint undone": (_savepoint_undone, True),
    "error": (_error, False),
    "error after savepoint": (_error_after_savepoint, False),
    "failed commit": (_failed_commit, False),
    "disconnect": (_disconnect, False),
    "disconnect amid": (_disconnect_amid, True),
    "nextset": (_nextset, True),
    "nextset in a transaction": (_nextset, False),
    "blocks": (_blocks, True),
    "blocks undone": (_blocks_undone, False),
    "reset": (_reset, True),
    "discard": (_discard, True),
    "two-phase": (_two_phase, True),
    "prepared": (_prepared, True),
    "pipeline": (_pipeline, True),
}
"""What happens then, and whether the sessions are in autocommit mode."""


def programs(way: Way) -> Iterator[Program]:
    """A way with each ending."""
    for name, (ending, autocommit) in ENDINGS.items():
        made = list(ending(way, probes(way.name)))
        login = {**(way.login or {}), **(AUTOCOMMIT if autocommit else {})}
        if made:
            steps = tuple(Step(session, action) for session, action in made)
            yield Program(steps, (login, login), f"{way}, {name}")


# Stories -----------------------------------------------------------------------------------------------------


def _story(name: str, *steps: tuple[int, Action], pins_end: bool = False, **login: Any) -> Program:
    """Steps of sessions in autocommit mode, unless `login` says otherwise."""
    arguments = {**AUTOCOMMIT, **login}
    sessions = 1 + max(session for session, _ in steps)
    return Program(tuple(Step(*step) for step in steps), (arguments,) * max(2, sessions), name, pins_end=pins_end)


def _by(session: int, *actions: Action) -> tuple[tuple[int, Action], ...]:
    return tuple((session, action) for action in actions)


_TEMP = run("create temp table scratch (word text)", pins="TEMP_TABLE")
_LOCK, _UNLOCK = (run(f"select pg_advisory_{do}(77)", pins="ADVISORY_LOCK") for do in ("lock", "unlock"))
_HOLD = run("declare kept cursor with hold for select name from place", pins="HOLD_CURSOR")
_READY = run("prepare ready as select name from place", pins="PREPARED_STATEMENT")
_ASK_ZONE = run("select timestamptz '2024-07-01 12:00+00', current_setting('timezone')")
_ASK_WHO = run("select current_user, session_user, current_setting('role')")
_NEXT, _CURR, _LAST = (
    run("select nextval('numbers_0_id_seq')"),
    run("select currval('numbers_0_id_seq')", asks=True),
    run("select lastval()", asks=True),
)


def _zone(value: str) -> Action:
    return run(f"set timezone to '{value}'", touches="timezone")


STORIES = (
    # Pins, and how they end
    _story(
        "a temporary table, dropped",
        *_by(0, _zone("Asia/Tokyo"), _TEMP, run("insert into scratch values ('mine')")),
        *_by(1, run("select * from scratch"), _ASK_ZONE),
        *_by(0, run("select * from scratch"), run("drop table scratch", pins="TEMP_TABLE"), _ASK_ZONE),
        *_by(1, _ASK_ZONE),
        pins_end=True,
    ),
    _story(
        "temporary tables of two sessions, one rolled back",
        *_by(0, _TEMP),
        *_by(1, BEGIN, _TEMP, run("insert into scratch values ('one')"), ROLLBACK, run("select * from scratch")),
        *_by(0, run("discard temp", pins="TEMP_TABLE"), run("select * from scratch")),
        pins_end=True,
    ),
    _story(
        "a temporary table that ends with its transaction",
        *_by(0, BEGIN, run("create temp table scratch on commit drop as select 1 as one", pins="TEMP_TABLE")),
        *_by(0, run("select * from scratch"), COMMIT, run("select * from scratch")),
        pins_end=True,
    ),
    _story(
        "prepared in SQL, deallocated",
        *_by(0, _READY, run("execute ready"), run("set search_path to s0", touches="search_path")),
        *_by(1, run("execute ready", pins="PREPARED_STATEMENT")),
        *_by(0, run("execute ready"), run("deallocate ready", pins="PREPARED_STATEMENT")),
        *_by(0, run("select name from place")),
        pins_end=True,
    ),
    _story(
        "an advisory lock, released",
        *_by(0, _LOCK, _LOCK, _UNLOCK),
        *_by(1, run("select pg_try_advisory_lock(77)", pins="ADVISORY_LOCK")),
        *_by(0, _UNLOCK, _UNLOCK),
        *_by(1, run("select pg_try_advisory_lock(77)", pins="ADVISORY_LOCK"), _UNLOCK),
        pins_end=True,
    ),
    _story(
        "an advisory lock of a transaction that failed",
        *_by(0, BEGIN, _LOCK, FAIL, ROLLBACK),
        *_by(1, run("select pg_try_advisory_lock(77)", pins="ADVISORY_LOCK")),
        *_by(0, run("select pg_advisory_unlock_all()", pins="ADVISORY_LOCK")),
        *_by(1, run("select pg_try_advisory_lock(77)", pins="ADVISORY_LOCK"), _UNLOCK),
        pins_end=True,
    ),
    _story(
        "listening, and no more",
        *_by(0, run("listen news", pins="LISTEN")),
        *_by(1, run("notify news, 'from one'"), act("notifies")),
        *_by(0, act("notifies"), run("unlisten news", pins="LISTEN")),
        *_by(1, run("notify news, 'again'")),
        *_by(0, act("notifies")),
        pins_end=True,
    ),
    _story(
        "a cursor with hold, closed",
        *_by(0, BEGIN, _HOLD, COMMIT, run("fetch kept")),
        *_by(1, run("fetch kept", pins="HOLD_CURSOR")),
        *_by(0, run("close kept", pins="HOLD_CURSOR"), run("fetch kept", pins="HOLD_CURSOR")),
        pins_end=True,
    ),
    _story(
        "a named cursor with hold, closed",
        (0, act("open_named", "kept", "select generate_series(1, 5)", True, pins="HOLD_CURSOR")),
        *_by(1, _ASK_ZONE),
        *_by(0, act("fetch_named", "kept", 2), _zone("Asia/Tokyo"), act("fetch_named", "kept", 2)),
        *_by(0, act("close_named", "kept"), _ASK_ZONE),
        pins_end=True,
    ),
    _story(
        "everything that pins, discarded",
        *_by(0, _TEMP, _READY, _HOLD, _LOCK, run("listen news", pins="LISTEN"), _zone("Asia/Tokyo")),
        *_by(0, run("discard all", pins="SETTING"), _ASK_ZONE, run("select * from scratch")),
        *_by(1, _ASK_ZONE),
        pins_end=True,
    ),
    _story(
        "backslashes in literals, and back",
        (0, run("set standard_conforming_strings to off", pins="SETTING UNRESETTABLE")),
        *_by(0, run(r"select 'a\\b'"), act("client", "select %s", ["it's \\ mine"])),
        *_by(1, run(r"select 'a\\b'"), act("client", "select %s", ["it's \\ mine"])),
        *_by(0, run("discard all"), run(r"select 'a\\b'")),
    ),
    # What was done last
    _story("currval of nobody", *_by(0, _CURR, _LAST)),
    _story("currval of one's own", *_by(0, _NEXT, _CURR, _LAST)),
    _story("currval of another", *_by(0, _NEXT), *_by(1, _CURR, _NEXT), *_by(0, _CURR, _LAST)),
    _story("currval in its transaction", *_by(0, BEGIN, _NEXT, _CURR, _LAST, COMMIT), *_by(1, _LAST)),
    _story("currval after DISCARD SEQUENCES", *_by(0, _NEXT, run("discard sequences"), _CURR)),
    # Who one is
    _story(
        "an authorization, a role under it, and back",
        *_by(0, run("set session authorization app", touches="role session_authorization"), _ASK_WHO),
        *_by(0, run("set role reader_0", touches="role"), _ASK_WHO, run("select count(*) from items_0")),
        *_by(1, _ASK_WHO),
        *_by(0, run("set log_statement to 'all'", touches="log_statement"), run("reset role"), _ASK_WHO),
        *_by(0, run("reset session authorization", touches="role session_authorization"), _ASK_WHO),
        user=SUPERUSER,
    ),
    _story(
        "a setting that the role after it may not make",
        *_by(0, run("set log_statement to 'all'", touches="log_statement"), run("set role reader_0", touches="role")),
        *_by(1, _ASK_WHO, run("set role writer", touches="role")),
        *_by(0, _ASK_WHO, run("reset log_statement", touches="log_statement"), run("select count(*) from items_0")),
        *_by(0, run("reset role", touches="role"), _ASK_WHO),
        user=SUPERUSER,
    ),
    _story(
        "rows of one's own",
        *_by(0, run("set app.tenant_id to 'tenant 0'", touches="app.tenant_id"), run("select word from tenants")),
        *_by(1, run("select set_config('app.tenant_id', %s, false)", "tenant 1", touches="app.tenant_id")),
        *_by(0, act("execute", "select word from tenants", None, True)),
        *_by(1, act("execute", "select word from tenants", None, True)),
        *_by(0, run("reset app.tenant_id", touches="app.tenant_id"), run("select word from tenants")),
    ),
    # How one connects
    _story(
        "options at the start are what RESET goes back to",
        *_by(0, _ASK_ZONE, _zone("Europe/Paris"), run("set app.actor to 'later'", touches="app.actor"), _ASK_ZONE),
        *_by(1, _ASK_ZONE, run("show app.actor")),
        *_by(0, run("reset timezone", touches="timezone"), _ASK_ZONE, run("reset all"), run("show app.actor")),
        *_by(0, _zone("Europe/Oslo"), run("discard all"), _ASK_ZONE, run("show app.actor")),
        options="-c timezone=Asia/Tokyo -c app.actor=start",
    ),
    _story(
        "an encoding at the start",
        *_by(0, run("select 'é', octet_length(convert_to('é', 'latin1'))")),
        *_by(0, run("set names 'utf8'", touches="client_encoding")),
        *_by(0, run("select 'é€'")),
        *_by(1, run("select chr(8364)")),
        *_by(0, run("reset client_encoding", touches="client_encoding"), run("select chr(8364)")),
        client_encoding="latin1",
    ),
    _story(
        "a name of the application",
        *_by(0, run("show application_name"), run("set application_name to 'later'", touches="application_name")),
        *_by(1, run("show application_name")),
        *_by(0, run("reset application_name", touches="application_name"), run("show application_name")),
        application_name="at first",
    ),
    # What the driver keeps
    _story(
        "the driver's transaction properties",
        *_by(0, act("set", "isolation_level", 4), act("set", "read_only", True), act("set", "deferrable", True)),
        *_by(1, run("show transaction_isolation"), run("show transaction_read_only")),
        *_by(0, run("show transaction_isolation"), act("set", "read_only", False), COMMIT),
        *_by(0, act("set", "read_only", False), run("show transaction_read_only"), COMMIT),
        *_by(1, act("set", "isolation_level", 2), run("show transaction_isolation"), ROLLBACK),
        *_by(0, act("set", "isolation_level", None), run("show transaction_isolation"), ROLLBACK),
        autocommit=False,
    ),
    _story(
        "autocommit on and off",
        *_by(0, run("insert into items_0 values (1, 'one')"), act("set", "autocommit", False)),
        *_by(0, run("insert into items_0 values (2, 'two')"), act("set", "autocommit", True), ROLLBACK),
        *_by(1, run("select * from items_0")),
        *_by(0, act("set", "autocommit", True), run("insert into items_0 values (3, 'three')")),
        *_by(1, run("select * from items_0")),
    ),
    _story(
        "settings by statements of every kind",
        *_by(0, act("open_named", "c", "select set_config('timezone', 'Asia/Tokyo', false)", touches="timezone")),
        *_by(0, act("fetch_named", "c", 1), COMMIT, _ASK_ZONE, COMMIT),
        *_by(0, act("stream", "select set_config('timezone', 'Europe/Oslo', false)", touches="timezone"), COMMIT),
        *_by(1, _ASK_ZONE, COMMIT),
        *_by(0, act("copy_out", "copy (select set_config('timezone', 'Asia/Dubai', false)) to stdout"), COMMIT),
        *_by(0, act("many", "select set_config('app.actor', %s, false)", [["a"], ["b"]], touches="app.actor"), COMMIT),
        *_by(0, act("client", "select set_config(%s, %s, false)", ["app.actor", "it's"], touches="app.actor"), COMMIT),
        *_by(1, _ASK_ZONE),
        autocommit=False,
    ),
    _story(
        "a setting prepared by the driver",
        *(
            step
            for at in range(7)
            for step in (
                *_by(at % 2, act("execute", "select set_config('app.actor', %s, false)", [f"{at}"], None,
                                 touches="app.actor")),
                *_by(1 - at % 2, run("select name from place")),
            )
        ),
    ),
    _story(
        "values of one zone while another session has another",
        *_by(0, _zone("Asia/Tokyo"), act("start", "select timestamptz '2024-07-01 12:00+00'")),
        *_by(1, _zone("Europe/Paris"), act("start", "select timestamptz '2024-07-01 12:00+00'; select 2 > 1")),
        *_by(0, act("fetch")),
        *_by(1, act("fetch"), act("nextset")),
    ),
    _story(
        "notices and their level",
        *_by(0, run("select note('x')"), run("set client_min_messages to error", touches="client_min_messages")),
        *_by(1, run("select note('y')"), run("commit"), run("begin"), run("begin"), run("rollback")),
        *_by(0, run("select note('z')"), run("commit"), run("set local timezone to 'Asia/Tokyo'")),
    ),
    _story(
        "locks of two transactions",
        *_by(0, run("insert into items_0 values (1, 'one')"), COMMIT, run("update items_0 set word = 'two'")),
        *_by(1, run("select word from items_0"), run("update items_0 set word = 'three'"), ROLLBACK),
        *_by(0, COMMIT),
        *_by(1, run("select word from items_0")),
        autocommit=False,
    ),
)  # fmt: skip
