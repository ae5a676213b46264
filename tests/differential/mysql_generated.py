"""The ingredients of generated programs for MySQL and MariaDB. More of a kind means more of it in the programs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.differential.generated import Ingredient
from tests.differential.mysql import AUTOCOMMIT, DATABASE, TRANSACTIONS, act, run
from tests.differential.mysql_programs import VALUES
from tests.differential.program import Action

_MODES = (
    "ANSI_QUOTES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "",
    "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT,STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT",
    "ANSI", "TRADITIONAL", "HIGH_NOT_PRECEDENCE",
)  # fmt: skip


def value_of(name: str, session: int, variant: int) -> str:
    """A value that no other session uses, where a variable has so many."""
    at = session * 3 + variant % 3
    if name == "sql_mode":
        return _MODES[at]
    if name == "time_zone":
        return f"+0{at + 1}:00"
    if name in ("group_concat_max_len", "net_read_timeout", "wait_timeout", "sql_select_limit"):
        return str(10 + at)
    return VALUES[name][session]


_NAMES = (
    "sql_mode", "time_zone", "group_concat_max_len", "lc_time_names", "div_precision_increment", "sql_select_limit",
    "foreign_key_checks", "sql_safe_updates", "sql_notes", "max_error_count", "collation_connection", "wait_timeout",
)  # fmt: skip


def _variable(name: str) -> Ingredient:
    """Each way to set one variable."""

    def ways(session: int, variant: int) -> Sequence[Action]:
        value = value_of(name, session, variant)
        is_number = value.isdigit()
        literal = value if is_number else f"'{value}'"
        ways = (
            run(f"set {name} = {literal}", touches=name),
            run(f"set session {name} = {literal}", touches=name),
            run(f"set @@{name} = {literal}", touches=name),
            run(f"set {name} = %s", int(value) if is_number else value, touches=name),
            run(f"set {name} = default", touches=name),
            run(f"set @@session.{name} := {literal}, @a = {session}", touches=f"{name} @a"),
            run(f"set {name} = @@global.{name}", touches=name),
            run(f"set {name} = {literal}; select 1", touches=name, pins="UNKNOWN_STATEMENT" * (name == "sql_mode")),
            run(f"set @a = {session}, {name} = 'of no kind'", touches=f"{name} @a"),
        )
        return (ways[variant],)

    return ways


def _each(*variants: Action | Sequence[Action]) -> Ingredient:
    """One of these, by the variant. `{s}` in texts is the session's number."""

    def pick(session: int, variant: int) -> Sequence[Action]:
        picked = variants[variant % len(variants)]
        return [_of(action, session) for action in ((picked,) if isinstance(picked, Action) else picked)]

    return pick


def _of(action: Action, session: int) -> Action:
    def fill(argument: object) -> object:
        if isinstance(argument, list):
            return [fill(each) for each in argument]
        return argument.replace("{s}", str(session)) if isinstance(argument, str) else argument

    return Action(
        action.verb, tuple(map(fill, action.arguments)), action.touches, action.pins, action.holds, action.asks
    )


_variables = [_variable(name) for name in _NAMES]
_CHARSET = "character_set_client character_set_results character_set_connection collation_connection"

_charset = _each(
    run("set names latin1", touches=_CHARSET),
    run("set names utf8mb4", touches=_CHARSET),
    run("set names utf8mb4 collate utf8mb4_bin", touches=_CHARSET),
    act("set_character_set", "latin1", touches=_CHARSET),
    act("set_character_set", "utf8mb4", touches=_CHARSET),
    run("set character set latin1", touches=_CHARSET),
    run("set names klingon", touches=_CHARSET),
    run("set names default", touches=_CHARSET),
    act("set_character_set", "utf8mb4", "utf8mb4_german2_ci", touches=_CHARSET),
)
_schema = _each(
    run(f"use {DATABASE}_{{s}}"),
    act("select_db", f"{DATABASE}_{{s}}"),
    run(f"use {DATABASE}"),
    run("use nothing_there"),
    run(f"use {DATABASE}_{{s}}; select name from place"),
)
_role = _each(
    run("set role reader_{s}", pins="SETTING"),  # what is set while it is active may need it
    run("set role none", pins="SETTING"),  # so may what was set before
    run("select name from secret_{s}.place"),
)
_user = _each(
    run("set @a = 1{s}", touches="@a"),
    run("set @a = 'text of {s}'", touches="@a"),
    run("set @a = null, @b = 'it''s {s}'", touches="@a @b"),
    run("set @a = %s", "it's \\ \" {s}", touches="@a"),
    run("select @a := 2{s}", touches="@a"),
    run("select 3{s}, 'four {s}' into @a, @b", touches="@a @b"),
    run("set @a = @a + 1", touches="@a", pins="USER_VARIABLE"),
    # Not the number itself: see DECLARED.
    run("set @b = concat(cast(@a as char), '{s}')", touches="@b", pins="USER_VARIABLE"),
    run("set @a = cast(5{s} as unsigned)", touches="@a"),
)
_one_shot = _each(
    run("set transaction isolation level serializable", holds=True),
    run("set transaction read only", holds=True),
    run("set session transaction isolation level read committed"),
    run("set session transaction read only"),
    run("set session transaction read write, isolation level repeatable read"),
)
_everything = _each(run("set sql_mode = default, time_zone = default, @a = null", touches="sql_mode time_zone @a"))
_wrong = _each(
    run("set sql_mode = 'NO_SUCH_MODE'", touches="sql_mode"),
    run("set time_zone = '+01:00', sql_mode = 'NO_SUCH_MODE'", touches="time_zone sql_mode"),
    run("set nothing_of_ours = 1"),
    run("select * from nowhere"),
    run("select 1 as"),
    run("set role nobody_we_know", pins="SETTING"),  # what is set beside it may have been set under a role
    run("set global time_zone = '+01:00'", touches="time_zone"),
    run("signal sqlstate '45000' set message_text = 'of {s}'"),
    run("select 1; set time_zone = '+02:00'; select * from nowhere; set time_zone = '+03:00'", touches="time_zone"),
)
_begin = _each(
    act("begin"), run("start transaction read only"), run("begin"), run("start transaction with consistent snapshot")
)
_end = _each(act("commit"), act("rollback"), run("commit"), run("rollback"), act("commit"), run("rollback and chain"))
_savepoint = _each(run("savepoint a"), run("rollback to a"), run("release savepoint a"))
_autocommit = _each(
    act("autocommit", True),
    act("autocommit", False),
    run("set autocommit = 0", touches="autocommit"),
    run("set autocommit = 1", touches="autocommit"),
    act("begin"),
)
_question = _each(
    run("select name from place"),
    run("select from_unixtime(86400), now() > '2024-01-01'"),
    run("select 'a' || 'b', 'c\\\\d'"),
    run('select "quoted"'),
    run("select %s, length(%s)", "it's \\ back {s}", "\\\\"),
    run("select cast(hex(@a) as char(50)), cast(hex(@b) as char(50)), @a = @b"),
    run("select 1 / 3, date_format('2024-05-01', '%M')"),
    run("select group_concat(n) from (select repeat('x', 50) as n union select 'y') t"),
    run("select 'a' = 'A', collation('x'), 'é'"),
)
_write = _each(
    run("insert into items_{s} values (1, 'one of {s}')"),
    run("select * from items_{s} order by id"),
    run("update items_{s} set word = concat(word, '!') where id = 1"),
    run("update items_{s} set word = 'all'"),
    act("many", "insert into items_{s} values (%s, %s)", [[5, "five\\{s}"], [6, "six"]]),
    run("insert into items_{s} values (2, repeat('x', 200))"),
    run("delete from items_{s} where id > 0"),
    run("insert into items_{s} values (3, %s)", "it's \\ {s}"),
    run("replace into items_{s} values (1, 'again')"),
)
_warned = _each(
    act("warned", "select 'x' + 0, 1 / 0"),
    act("warned", "drop table if exists not_there"),
    act("warned", "select * from nowhere"),
    act("warned", f"call {DATABASE}.note('x')", pins="UNKNOWN_ROUTINE"),
    act("warned", "insert into items_{s} values (4, repeat('x', 200))"),
    act("warned", "select 1"),
    act("warned", "update items_{s} set word = word + 0"),
    act("warned", "set sql_notes = 1", touches="sql_notes"),
    act("warned", "select name from place"),
)
_results = _each(
    act("start", "select name from place; select now() > '2024-01-01'; select 3"),
    act("fetch"),
    act("nextset"),
    act("start", "set time_zone = '+1{s}:00'; select from_unixtime(86400)", touches="time_zone"),
    act("nextset"),
    act("start", f"call {DATABASE}.results()", pins="UNKNOWN_ROUTINE"),
)
_cursors = _each(
    act("stream", "select 1 union all select 2 union all select 3", 2),
    act("start_stream", "select 1 union all select 2 union all select 3"),
    act("end_stream"),
    act("mogrify", "select %s, %s", ["it's \\ {s}", None]),
    act("ping"),
    act("insert_id"),
    run(f"call {DATABASE}.results()", pins="UNKNOWN_ROUTINE"),
)
_reopen = _each(act("reopen"))
_routines = _each(
    run(f"call {DATABASE}.note('x')", pins="UNKNOWN_ROUTINE"),
    run(f"call {DATABASE}.results()", pins="UNKNOWN_ROUTINE"),
)

SETTINGS: tuple[Ingredient, ...] = (
    *_variables, *_variables[:2], *_variables[:2], _charset, _schema, _schema, _role, _user, _user, _user, _everything,
    _wrong, _wrong, _end, _end, _end, _begin, _savepoint, _autocommit, _one_shot, _question, _question, _question,
    _write, _write, _reopen,
)  # fmt: skip
"""State and transactions."""

STATEMENTS: tuple[Ingredient, ...] = (
    _question, _question, _write, _write, _warned, _warned, _warned, _results, _results, _cursors, _cursors, _routines,
    *_variables[:5], _charset, _schema, _user, _user, _end, _end, _begin, _savepoint, _wrong, _autocommit,
)  # fmt: skip
"""Every kind of statement the driver has, amid changes of state."""

_PINS: tuple[Ingredient, ...] = (
    _each(
        run("create temporary table scratch (word varchar(100))", pins="TEMP_TABLE"),
        run("insert into scratch values ('{s}')", pins="TEMP_TABLE"),
        run("select * from scratch", pins="TEMP_TABLE"),
        run("drop table scratch", pins="TEMP_TABLE"),
        run("drop temporary table if exists scratch", pins="TEMP_TABLE"),
        run("create temporary table scratch as select '{s}' as word", pins="TEMP_TABLE"),
    ),
    _each(
        run("prepare ready from 'select {s}'", pins="PREPARED_STATEMENT"),
        run("execute ready", pins="PREPARED_STATEMENT"),
        run("deallocate prepare ready", pins="PREPARED_STATEMENT"),
    ),
    _each(
        run("select get_lock('lock {s}', 0)", pins="NAMED_LOCK"),
        run("select release_lock('lock {s}')", pins="NAMED_LOCK"),
        run("select release_all_locks()", pins="NAMED_LOCK"),
        run("do get_lock('lock {s}', 0)", pins="NAMED_LOCK"),
        run("select is_used_lock('lock {s}') is null, is_free_lock('lock {s}')"),
    ),
    _each(
        run("lock tables items_{s} write", pins="TABLE_LOCK"),
        run("select * from items_{s}"),
        run("unlock tables", pins="TABLE_LOCK"),
        run("lock tables items_{s} read, place read", pins="TABLE_LOCK"),
    ),
    _each(
        run("set @a = 1.5", touches="@a", pins="USER_VARIABLE"),
        run("set @a = x'00ff'", touches="@a", pins="USER_VARIABLE"),
        run("set @a = null", touches="@a"),
        run("set @a = 5", touches="@a"),
        run("select cast(hex(@a) as char(50)), coercibility(@a)"),
    ),
    _each(
        run("handler items_{s} open", pins="HOLD_CURSOR"),
        run("handler items_{s} read first", pins="HOLD_CURSOR"),
        run("handler items_{s} close", pins="HOLD_CURSOR"),
    ),
)
_diagnostics = _each(
    run("select last_insert_id()", asks=True),
    run("select row_count()", asks=True),
    run("select found_rows()", asks=True),
    run("insert into numbers_{s} (word) values ('new')"),
    run("select sql_calc_found_rows 1 union all select 2 limit 1", holds=True),
    run("insert into numbers_{s} (word) values ('a'), ('b')"),
    run("update items_{s} set word = 'x' where id = 1"),
    run("select last_insert_id(77)"),
    run("select @@identity, @@warning_count, @@error_count", asks=True),
)
PINS: tuple[Ingredient, ...] = (
    *_PINS, *_PINS, _diagnostics, _diagnostics, _diagnostics, *_variables[:3], _write, _write, _end, _end, _begin,
    _schema, _wrong, _question, _warned,
)  # fmt: skip
"""State that stays where it is and how it ends, and questions about earlier statements."""

LOGINS = st.sampled_from((AUTOCOMMIT, TRANSACTIONS))
