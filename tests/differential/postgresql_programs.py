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
    "default_transaction_read_only": ("show transaction_read_only", "insert into numbers_0 (word) values ('probe') returning id"),
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
    Way("set standard_conforming_strings to {v}", "standard_conforming_strings", pins="SETTING"),
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
    Way("select set_config(name, '{v}', false) from (values ('app.actor')) names (name)", "app.actor", pins="SETTING UNRESETTABLE"),
    Way("select set_config('app.' || 'actor', '{v}', false)", "app.actor", pins="SETTING UNRESETTABLE"),
    Way("update pg_settings set setting = '{v}' where name = 'TimeZone'", "timezone", pins="SETTING"),
    Way("do $$ begin perform set_config('app.actor', '{v}', false); end $$", "app.actor"),
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
