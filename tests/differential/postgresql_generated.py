"""The ingredients of generated programs for PostgreSQL. More of a kind means more of it in the programs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.differential.generated import Ingredient
from tests.differential.postgresql import act, run
from tests.differential.postgresql_programs import VALUES
from tests.differential.program import Action

_ZONES = "Asia/Tokyo Asia/Kolkata Asia/Dubai Europe/Paris Europe/Oslo Europe/Kyiv America/Lima America/Bogota Etc/GMT+5"


def value_of(name: str, session: int, variant: int) -> str:
    """A value that no other session uses, where a setting has so many."""
    at = session * 3 + variant % 3
    if name == "timezone":
        return _ZONES.split()[at]
    if name in ("work_mem", "statement_timeout"):
        return str(70_000 + at)
    if name == "application_name":
        return f"shop {at}"
    if name == "app.actor":
        return f"it's \\ actor {at}"
    if name == "search_path":
        return (f"s{session}", f"s{session}, public", "public")[variant % 3]
    return VALUES[name][session]


_NAMES = ("app.actor", "timezone", "work_mem", "search_path", "app.tenant_id", "datestyle", "bytea_output",
          "statement_timeout", "client_min_messages", "application_name", "row_security",
          "default_transaction_isolation", "default_transaction_read_only", "intervalstyle")  # fmt: skip


def _setting(name: str) -> Ingredient:
    """Each way to set one setting."""

    def ways(session: int, variant: int) -> Sequence[Action]:
        value = value_of(name, session, variant)
        quoted = value if name == "search_path" else "'" + value.replace("'", "''") + "'"
        literal = "'" + value.replace("'", "''") + "'"
        ways = (
            run(f"set {name} to {quoted}", touches=name),
            run(f"select set_config('{name}', {literal}, false)", touches=name),
            run(f"set local {name} to {quoted}", touches=name),
            run("select set_config(%s, %s, false)", name, value, touches=name),
            run(f"select set_config('{name}', %s, %s)", value, bool(variant % 2), touches=name),
            run(f"with it as (select set_config('{name}', {literal}, false)) select * from it", touches=name),
            run(f"reset {name}", touches=name),
            run(f"set {name} to {quoted}; select 1", touches=name),
            run(f"set {name} to default", touches=name),
        )
        return (ways[variant],)

    return ways


def _each(*variants: Action | Sequence[Action]) -> Ingredient:
    """One of these, by the variant. `{s}` in texts is the session's number."""

    def pick(session: int, variant: int) -> Sequence[Action]:
        picked = variants[variant % len(variants)]
        actions = (picked,) if isinstance(picked, Action) else picked
        return [_of(action, session) for action in actions]

    return pick


def _of(action: Action, session: int) -> Action:
    arguments = tuple(
        argument.replace("{s}", str(session)) if isinstance(argument, str) else argument
        for argument in action.arguments
    )
    return Action(action.verb, arguments, action.touches, action.pins, action.holds, action.asks)


_settings = [_setting(name) for name in _NAMES]

_role = _each(
    run("set role reader_{s}", touches="role"),
    run("set role writer", touches="role"),
    run("reset role", touches="role"),
    run("set local role reader_{s}", touches="role"),
    run("select set_config('role', 'writer', false)", touches="role"),
    run("set role none", touches="role"),
)
_TX = "transaction_isolation transaction_read_only default_transaction_isolation default_transaction_read_only"
_characteristics = _each(
    run("set session characteristics as transaction isolation level serializable", touches=_TX),
    run("set session characteristics as transaction read only", touches=_TX),
    run("set transaction isolation level repeatable read", touches=_TX),
    run("begin isolation level serializable, read only", touches=_TX),
    run("set default_transaction_isolation to default; set default_transaction_read_only to default", touches=_TX),
    run("set session characteristics as transaction read write, not deferrable", touches=_TX),
)
_several = _each(
    run("set app.actor to 'one of {s}'; set timezone to 'Etc/GMT+{s}'", touches="app.actor timezone"),
    run("begin; set app.actor to 'two of {s}'; commit", touches="app.actor"),
    run("begin; set app.actor to 'three of {s}'; rollback", touches="app.actor"),
    run("set app.actor to 'four of {s}'; select 1/0", touches="app.actor"),
    run("set app.actor to 'five of {s}'; commit; set app.actor to 'no'; select 1/0", touches="app.actor"),
    run("savepoint x; set app.actor to 'six of {s}'; rollback to x", touches="app.actor"),
    run("begin; set local app.actor to 'seven of {s}'; savepoint y; reset app.actor", touches="app.actor"),
)
_everything = _each(
    run("reset all"), act("execute", "discard all", None, False), run("discard plans"), run("discard temp")
)
_wrong = _each(
    run("set timezone to 'Nowhere/{s}'", touches="timezone"),
    run("select set_config('work_mem', %s, false)", "lots", touches="work_mem"),
    run("set nothing_of_ours to 1"),
    run("select 1/0"),
    run("set role nobody_we_know", touches="role"),
    run("select from nowhere"),
    run("select 1 as"),
    run("set log_statement to 'all'", touches="log_statement"),
)
_begin = _each(
    run("begin"), run("start transaction read only"), run("begin"), run("begin isolation level serializable")
)
_end = _each(act("commit"), act("rollback"), run("commit"), run("rollback"), act("commit"), run("commit and chain"))
_savepoint = _each(run("savepoint a"), run("rollback to a"), run("release a"), run("savepoint b"), run("rollback to b"))
_block = _each(
    act("enter"), act("leave"), act("leave", "error"), act("enter"), act("leave", "rollback"), act("enter", "inner"),
    act("enter", None, True), act("settle", "commit"), act("settle", "rollback"),
)  # fmt: skip
_property = _each(
    act("set", "autocommit", True), act("set", "autocommit", False), act("set", "isolation_level", 4),
    act("set", "read_only", True), act("set", "deferrable", True), act("set", "isolation_level", None),
    act("set", "read_only", None), act("set", "isolation_level", 3), act("set", "read_only", False),
)  # fmt: skip
_question = _each(
    run("select name from place"),
    run("select timestamptz '2024-07-01 12:00+00', %s::timestamptz::text", "2024-07-01 12:00+00"),
    run("select word from tenants"),
    run("select note('x')"),
    run("show transaction_isolation"),
    run("select %s::date::text, %s::interval::text", "02/03/2024", "1 day 2 hours"),
    run(r"select '\x00ff'::bytea"),
    run("select current_user, session_user"),
    run("select %s::date, %s::bytea::text", "02/03/2024", b"\0a"),
)
_write = _each(
    run("insert into items_{s} values (1, 'one of {s}')"),
    run("select * from items_{s} order by id"),
    run("with changed as (update items_{s} set word = word || '!' returning *) select * from changed order by id"),
    run("insert into later_{s} values (1), (1)"),  # which COMMIT refuses
    act("many", "insert into items_{s} values (%s, %s)", ((5, "five"), (6, "six"))),
    run("insert into items_{s} select 2, set_config('app.actor', 'row of {s}', false)", touches="app.actor"),
    act("many", "insert into items_{s} values (%s, %s) returning id", ((7, "seven"), (8, "eight")), True),
    run("delete from items_{s}"),
    run("update items_{s} set word = %s where id = 1 returning set_config('app.actor', word, false)", "upd {s}",
        touches="app.actor"),
)  # fmt: skip
_prepared = _each(
    act("execute", "select name from place", None, True),
    act("execute", "select %s::timestamptz::text", ["2024-07-01 12:00+00"], True),
    act("execute", "select word from tenants", None, True),
    act("execute", "select coalesce(current_setting('app.actor', true), '') = ''", None, True),
    act("execute", "select set_config('timezone', %s, false)", ["Etc/GMT-{s}"], True, touches="timezone"),
    act("execute", "select %s::date", ["2024-07-01"], True, True),
)
_results = _each(
    act("start", "select timestamptz '2024-07-01 12:00+00'; select name from place; select 3"),
    act("fetch"),
    act("nextset"),
    act("start", "set timezone to 'Etc/GMT+1{s}'; select timestamptz '2024-07-01 12:00+00'", touches="timezone"),
    act("nextset"),
)
_cursors = _each(
    (act("open_named", "c{s}", "select timestamptz '2024-07-01 12:00+00' from generate_series(1, 5)"),
     act("fetch_named", "c{s}", 2)),
    act("fetch_named", "c{s}", 2),
    act("close_named", "c{s}"),
    act("stream", "select name, generate_series(1, 3) from place"),
    act("copy_out", "copy (select timestamptz '2024-07-01 12:00+00', name from place) to stdout"),
    act("copy_in", "copy items_{s} from stdin", "30\tthirty\n31\tthirty-one\n"),
    act("client", "select %s, %s", ["it's \\ {s}", b"\x00"]),
    act("client", "select set_config(%s, %s, false)", ["app.actor", "client {s}"], touches="app.actor"),
    act("pipeline", "set app.actor to 'pipe {s}'", "select current_user", touches="app.actor"),
)  # fmt: skip
_reopen = _each(act("reopen"))
_routines = _each(
    run("select sets_here('{s}')", touches="app.actor"),
    run("do $$ begin perform 1; end $$"),
    run("do $$ begin raise notice 'noted'; end $$"),
)

SETTINGS: tuple[Ingredient, ...] = (
    *_settings, *_settings, _end, _end, _end, _begin, _savepoint, _savepoint, _block, _block, _role, _role,
    _characteristics, _several, _several, _everything, _wrong, _wrong, _question, _question, _question, _write,
    _property, _reopen,
)  # fmt: skip
"""State and transactions."""

STATEMENTS: tuple[Ingredient, ...] = (
    _question, _question, _write, _write, *_settings[:6], _end, _end, _prepared, _prepared, _results, _results,
    _cursors, _cursors, _cursors, _begin, _savepoint, _block, _wrong, _role, _everything, _property,
)  # fmt: skip
"""Every kind of statement the driver has, amid changes of state."""

_PINS: tuple[Ingredient, ...] = (
    _each(
        run("create temp table scratch (word text)", pins="TEMP_TABLE"),
        run("insert into scratch values ('{s}')", pins="TEMP_TABLE"),
        run("select * from scratch", pins="TEMP_TABLE"),
        run("drop table scratch", pins="TEMP_TABLE"),
        run("create temp table scratch on commit drop as select '{s}' as word", pins="TEMP_TABLE"),
        run("discard temp", pins="TEMP_TABLE"),
    ),
    _each(
        run("prepare ready as select 'ready of {s}'", pins="PREPARED_STATEMENT"),
        run("execute ready", pins="PREPARED_STATEMENT"),
        run("deallocate ready", pins="PREPARED_STATEMENT"),
        run("deallocate all", pins="PREPARED_STATEMENT"),
    ),
    _each(
        run("select pg_advisory_lock(77{s})", pins="ADVISORY_LOCK"),
        run("select pg_advisory_unlock(77{s})", pins="ADVISORY_LOCK"),
        run("select pg_try_advisory_lock(77{s}), 1/0", pins="ADVISORY_LOCK"),
        run("select pg_advisory_unlock_all()", pins="ADVISORY_LOCK"),
        run("select pg_advisory_xact_lock(78{s})"),
        run("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"),
    ),
    _each(
        run("listen news_{s}", pins="LISTEN"),
        run("unlisten news_{s}", pins="LISTEN"),
        run("unlisten *", pins="LISTEN"),
        run("select pg_listening_channels()"),
    ),
    _each(
        run("declare kept cursor with hold for select 'kept of {s}'", pins="HOLD_CURSOR"),
        run("fetch kept", pins="HOLD_CURSOR"),
        run("close kept", pins="HOLD_CURSOR"),
        run("close all", pins="HOLD_CURSOR"),
    ),
    _each(
        run("set standard_conforming_strings to off", touches="standard_conforming_strings",
            pins="SETTING UNRESETTABLE"),
        run("reset standard_conforming_strings", touches="standard_conforming_strings",
            pins="SETTING UNRESETTABLE"),
        run("select set_config('app.' || 'actor', 'odd {s}', false)", touches="app.actor",
            pins="SETTING UNRESETTABLE"),
        run("select sets('{s}')", touches="app.actor"),
    ),
)  # fmt: skip
_sequences = _each(
    run("select nextval('numbers_{s}_id_seq')"),
    run("select currval('numbers_{s}_id_seq')", asks=True),
    run("select lastval()", asks=True),
    run("insert into numbers_{s} (word) values ('new') returning id"),
    run("select setval('numbers_{s}_id_seq', 500)"),
    run("discard sequences"),
)
PINS: tuple[Ingredient, ...] = (
    *_PINS, *_PINS, _sequences, _sequences, *_settings[:4], _end, _end, _begin, _savepoint, _everything, _block, _wrong,
    _question,
)  # fmt: skip
"""State that stays where it is, and how it ends."""

LOGINS = st.sampled_from(({"autocommit": True}, {"autocommit": False}))
