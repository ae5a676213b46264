"""Programs for MySQL and MariaDB: each way to set state with each way in which it can go on.

A way more is a row of WAYS, an ending more a row of ENDINGS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.differential.mysql import AUTOCOMMIT, DATABASE, TRANSACTIONS, act, run
from tests.differential.program import Action, Program, Step

# What values do ----------------------------------------------------------------------------------------------

VALUES: Mapping[str, tuple[str, str, str]] = {
    "sql_mode": ("ANSI_QUOTES,PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", "STRICT_ALL_TABLES,ANSI"),
    "time_zone": ("+09:00", "-03:00", "+05:30"),
    "lc_time_names": ("de_DE", "fr_FR", "es_ES"),
    "group_concat_max_len": ("10", "20", "30"),
    "div_precision_increment": ("2", "6", "9"),
    "sql_select_limit": ("1", "2", "3"),
    "sql_safe_updates": ("1", "0", "1"),
    "sql_notes": ("0", "1", "0"),
    "max_error_count": ("0", "1", "2"),
    "foreign_key_checks": ("0", "1", "0"),
    "unique_checks": ("0", "1", "0"),
    "sql_auto_is_null": ("0", "0", "0"),
    "default_week_format": ("1", "3", "6"),
    "net_read_timeout": ("41", "42", "43"),
    "wait_timeout": ("4001", "4002", "4003"),
    "innodb_lock_wait_timeout": ("2", "3", "4"),
    "character_set_results": ("latin1", "ascii", "utf8mb4"),
    "collation_connection": ("utf8mb4_bin", "latin1_general_cs", "utf8mb4_german2_ci"),
    "updatable_views_with_limit": ("0", "1", "0"),
    "auto_increment_increment": ("5", "7", "9"),
    "default_storage_engine": ("MyISAM", "MEMORY", "InnoDB"),
}
"""For each variable one value per session."""

_COUNTED = "insert into numbers_0 (word) values ('probe')"
PROBES: Mapping[str, tuple[Action, ...]] = {
    "sql_mode": (
        run("select 'a' || 'b', 'c\\\\d'"),
        run('select "quoted"'),
        run("select %s, length(%s)", "it's \\ back", "\\\\"),
        run("insert into items_0 values (70, repeat('x', 200))"),
    ),
    "time_zone": (run("select from_unixtime(86400), unix_timestamp('2024-01-01 00:00:00')"),),
    "lc_time_names": (run("select date_format('2024-05-01', '%%W %%M')"),),
    "group_concat_max_len": (act("warned", "select group_concat(n) from (select repeat('x', 50) as n) t"),),
    "div_precision_increment": (run("select 1 / 3"),),
    "sql_select_limit": (run("select * from (select 1 union all select 2 union all select 3 union all select 4) t"),),
    "sql_safe_updates": (run("update items_0 set word = 'all'"),),
    "sql_notes": (act("warned", "drop table if exists not_there"),),
    "max_error_count": (act("warned", "select 'a' + 1, 'b' + 1, 'c' + 1"),),
    "auto_increment_increment": (run("insert into numbers_0 (word) values ('one'), ('two')"),),
    "character_set_results": (run("select length('é') as length, '中' as sign"),),
    "collation_connection": (run("select 'a' = 'A', collation('x'), 'ä' = 'ae'"),),
    "character_set_client": (run("select 'é' as `é`, length('é'), collation('é')"), run("select %s", "ä €")),
    "@a": (run("select @a, @a + 1, concat(@a, 'x'), @a is null, coercibility(@a)"), run("select @a = 'ABC'")),
    "schema": (run("select name from place"), run("select schema()")),
    "role": (run("select current_role()"), run("select name from secret_0.place")),
    "autocommit": (run(_COUNTED), act("rollback"), run("select count(*) from numbers_0")),
    "isolation": (run("select count(*) from place"), run(_COUNTED)),
}
"""What shows a setting at work; the looks alone show what is not here."""


def probes(name: str) -> list[Action]:
    return list(PROBES.get(name, (run("select 1"),)))


# Ways to set something ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """One way to set something, or to try. `{v}` in texts and arguments is the session's value."""

    text: str
    """Or the verb of the player, with `arguments`."""
    touches: str
    """The names; what a look can ask for is looked at."""
    arguments: tuple[Any, ...] | None = None
    params: tuple[Any, ...] | None = None
    pins: str = ""
    values: tuple[str, str, str] | None = None
    holds: bool = False
    server: str = ""
    """`mysql` or `mariadb`, where only one has it."""

    @property
    def name(self) -> str:
        return self.touches.split()[0]

    def __str__(self) -> str:
        more = self.arguments if self.arguments is not None else self.params
        return " ".join(f"{self.text}{'' if more is None else f' {more}'}".split())

    def __call__(self, at: int) -> Action:
        """With the value number `at`."""
        value = (self.values or VALUES.get(self.name, ("0", "1", "2")))[at]

        def fill(what: Any) -> Any:
            return what.replace("{v}", value) if isinstance(what, str) else what

        touches = tuple(name for name in self.touches.split() if name not in _NOT_LOOKED_AT)
        pins = tuple(self.pins.split())
        if self.arguments is not None:
            return Action(self.text, tuple(map(fill, self.arguments)), touches, pins, self.holds)
        filled: tuple[Any, ...] = (self.text.replace("{v}", value.replace("'", "''")),)
        if self.params is not None:
            filled += (list(map(fill, self.params)),)
        return Action("execute", filled, touches, pins, self.holds)


_NOT_LOOKED_AT = ("schema", "role", "isolation")  # a look shows the database and the role in any case
_CHARSET = "character_set_client character_set_results character_set_connection collation_connection"
_USER = "@a"
_BY_ROUTINE = "UNKNOWN_ROUTINE SETTING USER_VARIABLE"
# MariaDB takes sql_mode back at the end of a routine, but says NO_BACKSLASH_ESCAPES in the status word, which PyMySQL
# believes and then escapes wrongly on a private connection.
_MODES = ("ANSI_QUOTES", "PIPES_AS_CONCAT", "STRICT_ALL_TABLES")
_BEHIND_MODE = "UNKNOWN_STATEMENT"  # how a text is read behind a SET of sql_mode

WAYS = (
    *(Way(f"set {name} = '{{v}}'", name) for name in VALUES if not VALUES[name][0].isdigit()),
    *(Way(f"set {name} = {{v}}", name) for name in VALUES if VALUES[name][0].isdigit()),
    Way("SET SESSION sql_mode := '{v}'", "sql_mode"),
    Way("set @@session.sql_mode = '{v}'", "sql_mode"),
    Way("set @@sql_mode = '{v}'", "sql_mode"),
    Way("set @@local.time_zone = '{v}'", "time_zone"),
    Way("set local time_zone = '{v}'", "time_zone"),
    Way("set sql_mode = concat(@@sql_mode, ',{v}')", "sql_mode"),
    Way("set sql_mode = %s", "sql_mode", params=("{v}",)),
    Way("set sql_mode = default", "sql_mode"),
    Way("set time_zone = @@global.time_zone", "time_zone"),
    Way("set foreign_key_checks = default, unique_checks = default", "foreign_key_checks unique_checks"),
    Way("set sql_mode = '{v}', time_zone = '+02:00', @a = 7", "sql_mode time_zone @a"),
    Way("set sql_mode = '{v}'; set time_zone = '+02:00'", "sql_mode time_zone", pins=_BEHIND_MODE),
    Way("/*!40101 set sql_mode = '{v}' */", "sql_mode", pins="UNKNOWN_STATEMENT"),
    Way("/* a comment */ set # another\n time_zone = '{v}';", "time_zone"),
    Way("/*!40103 set @old = @@time_zone, time_zone = '{v}' */", "time_zone @old", pins="UNKNOWN_STATEMENT"),
    Way("select /*+ set_var(time_zone = '{v}') */ @@time_zone", "time_zone", pins="UNKNOWN_STATEMENT", server="mysql"),
    Way("set statement time_zone = '{v}' for select @@time_zone", "time_zone", pins="SETTING", server="mariadb"),
    Way(
        "set statement max_statement_time = 50 for set time_zone = '{v}'", "time_zone", pins="SETTING", server="mariadb"
    ),
    Way("set names {v}", _CHARSET, values=("latin1", "utf8mb4", "ascii")),
    Way("set names 'utf8mb4' collate '{v}'", _CHARSET, values=("utf8mb4_bin", "utf8mb4_german2_ci", "utf8mb4_bin")),
    Way("set names default", _CHARSET),
    Way("set character set {v}", _CHARSET, values=("latin1", "utf8mb4", "ascii")),
    Way("set charset {v}", _CHARSET, values=("latin1", "utf8mb4", "ascii")),
    Way("set_character_set", _CHARSET, ("{v}",), values=("latin1", "utf8mb4", "ascii")),
    Way("set_character_set", _CHARSET, ("utf8mb4", "{v}"), values=("utf8mb4_bin", "utf8mb4_german2_ci", "utf8mb4_bin")),
    Way(f"use {DATABASE}_{{v}}", "schema"),
    Way(f"use `{DATABASE}_{{v}}`; select 1", "schema"),
    Way("select_db", "schema", (f"{DATABASE}_{{v}}",)),
    Way("select_db", "schema", ("nothing_there_{v}",)),
    Way("set role reader_{v}", "role"),
    Way("set role none", "role"),
    Way("set role all", "role", server="mysql"),
    Way("set role default", "role", server="mysql"),
    Way("set role reader_0, reader_1", "role", server="mysql"),
    Way("set role nobody_we_know", "role"),
    Way(
        "set transaction isolation level {v}",
        "isolation",
        values=("serializable", "read committed", "read uncommitted"),
        holds=True,
    ),
    Way("set transaction read only", "isolation", holds=True),
    Way("set transaction read only, isolation level serializable", "isolation", holds=True),
    Way(
        "set session transaction isolation level {v}",
        "isolation transaction_isolation",
        server="mysql",
        values=("serializable", "read committed", "read uncommitted"),
    ),
    Way(
        "set session transaction isolation level {v}",
        "isolation tx_isolation",
        server="mariadb",
        values=("serializable", "read committed", "read uncommitted"),
    ),
    Way("set session transaction read only", "isolation transaction_read_only", server="mysql"),
    Way("set session transaction read only", "isolation tx_read_only", server="mariadb"),
    Way(
        "set transaction_isolation = '{v}'",
        "isolation transaction_isolation",
        server="mysql",
        values=("SERIALIZABLE", "READ-COMMITTED", "READ-UNCOMMITTED"),
    ),
    Way("set @@transaction_isolation = 'SERIALIZABLE'", "isolation transaction_isolation", server="mysql", holds=True),
    Way(
        "set tx_isolation = '{v}'",
        "isolation tx_isolation",
        server="mariadb",
        values=("SERIALIZABLE", "READ-COMMITTED", "READ-UNCOMMITTED"),
    ),
    Way("set autocommit = {v}", "autocommit"),
    Way("set @@autocommit = {v}", "autocommit"),
    Way("autocommit", "autocommit", (False,)),
    Way("autocommit", "autocommit", (True,)),
    Way("set max_execution_time = {v}", "max_execution_time", server="mysql", values=("40001", "40002", "40003")),
    Way("set max_statement_time = {v}", "max_statement_time", server="mariadb", values=("41", "42.5", "43")),
    Way("set sql_mode = 'NO_SUCH_MODE_{v}'", "sql_mode"),
    Way("set time_zone = 'Nowhere/{v}'", "time_zone"),
    Way("set nothing_of_ours = {v}", "time_zone"),
    Way("set time_zone = '+01:00', sql_mode = 'NO_SUCH_MODE'", "time_zone sql_mode"),
    Way("set time_zone = '+01:00', nothing_of_ours = 1", "time_zone"),
    Way("set global sql_mode = '{v}'", "sql_mode"),
    Way("set names klingon", _CHARSET),
    Way("set wait_timeout = 'many'", "wait_timeout"),
    Way("set sql_select_limit = 2; select 1 from nowhere", "sql_select_limit"),
    Way("set completion_type = {v}", "completion_type", pins="SETTING", values=("1", "0", "1")),
    Way("set sql_auto_is_null = 1", "sql_auto_is_null", pins="SETTING"),
    Way("set timestamp = 1700000000", "time_zone", pins="SETTING"),
    # User variables
    Way("set @a = {v}", _USER, values=("5", "-3", "18446744073709551615")),
    Way("set @a = '{v}'", _USER, values=("abc", "it's \\\\ é", "")),
    Way("set @a = %s", _USER, params=("it's \\ '{v}' \0 é €",)),
    Way("set @a := {v}, @b := @a", "@a @b", values=("5", "'abc'", "null")),
    Way("set @a = null", _USER),
    Way("set @a = 5; set @a = null", _USER),
    Way("set @a = true", _USER),
    Way("set @a = cast({v} as unsigned)", _USER, values=("5", "0", "7")),
    Way("set @a = {v}", _USER, values=("1.50", "-0.1", "12345678901234567890.5"), pins="USER_VARIABLE"),
    Way("set @a = {v}", _USER, values=("1.5e0", "-1e100", "1e-3"), pins="USER_VARIABLE"),
    Way("set @a = {v}", _USER, values=("x'00ff'", "x'41'", "b'1'"), pins="USER_VARIABLE"),
    Way("set @a = _latin1'{v}'", _USER, values=("abc", "x", "y"), pins="USER_VARIABLE"),
    Way("set @a = '{v}' collate utf8mb4_bin", _USER, values=("abc", "x", "y"), pins="USER_VARIABLE"),
    Way("set @a = date '2024-01-0{v}'", _USER, values=("1", "2", "3"), pins="USER_VARIABLE"),
    Way("set @a = cast('{v}' as json)", _USER, values=('{"x": 1}', "[1]", "2"), server="mysql", pins="USER_VARIABLE"),
    Way("set @a = current_role()", _USER, pins="USER_VARIABLE"),
    Way("set @a = @@sql_mode", _USER, pins="USER_VARIABLE"),
    Way("set @a = (select count(*) from place)", _USER),
    Way("select {v} into @a", _USER, values=("5", "'abc'", "null")),
    Way("select name into @a from place", _USER, pins="USER_VARIABLE"),
    Way("select @a := {v}", _USER, values=("5", "'abc'", "null")),
    Way("select @a := coalesce(@a, 0) + 1 from (select 1 union all select 2) t", _USER, pins="USER_VARIABLE"),
    Way("set @`a` = 'quoted', @'b' = 1", "@a @b", pins="USER_VARIABLE UNKNOWN_STATEMENT"),
    Way("set @a = 5, time_zone = 'Nowhere'", "@a time_zone"),
    Way("set @a = repeat('x', {v})", _USER, values=("1000", "20000", "70000"), pins="USER_VARIABLE"),
    # By routines
    Way("call sets_mode('{v}')", "sql_mode", pins=_BY_ROUTINE, values=_MODES),
    Way("call sets_zone('{v}')", "time_zone", pins=_BY_ROUTINE),
    Way("proc", "sql_mode", ("sets_mode", "{v}"), pins=_BY_ROUTINE, values=_MODES),
    Way("call sets_variable('{v}')", "@actor", values=("anna", "ben", "çağla"), pins=_BY_ROUTINE),
    Way("select remember('{v}')", "@actor", values=("anna", "ben", "çağla"), pins=_BY_ROUTINE),
    Way(f"call {DATABASE}.results()", "time_zone"),
    Way("call writes({v})", "@actor", pins=_BY_ROUTINE),
    Way("call fails()", "@actor", pins=_BY_ROUTINE),
)
"""Those of which the value is known before it runs may not pin; what a column, an expression or a routine gives to a
user variable may be of a kind that cannot be moved."""

# What happens then -------------------------------------------------------------------------------------------

Made = Iterator[tuple[int, Action]]
Sets = Callable[[int], Action]

COMMIT, ROLLBACK, BEGIN = act("commit"), act("rollback"), act("begin")
WRITE, READ = run("insert into items_0 values (1, 'one')"), run("select * from items_0 order by id")
FAIL = run("select * from nowhere")
DUPLICATE = run("insert into items_0 values (1, 'one'), (1, 'two')")


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
    yield 0, COMMIT
    yield from _asked(1, asks)
    yield 1, COMMIT
    yield 0, sets(2)
    yield from _asked(1, asks)
    yield 1, COMMIT
    yield from _asked(0, asks)


def _commit(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, WRITE
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, COMMIT
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _rollback(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(2)
    yield 0, WRITE
    yield 0, sets(0)
    yield 0, ROLLBACK
    yield 0, READ
    yield 0, ROLLBACK
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _open_at_once(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 1, run("start transaction with consistent snapshot")
    yield 0, sets(0)
    yield 1, sets(1)
    yield from _asked(0, asks)
    yield 0, ROLLBACK
    yield from _asked(1, asks)
    yield 1, COMMIT
    yield from _asked(0, asks)
    yield 0, COMMIT
    yield from _asked(1, asks)


def _savepoint(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, sets(2)
    yield 0, run("savepoint one")
    yield 0, WRITE
    yield 0, sets(0)
    yield 0, run("rollback to one")
    yield from _asked(0, asks)
    yield 0, run("commit")
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _error(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, sets(0)
    yield 0, DUPLICATE
    yield 0, FAIL
    yield from _asked(0, asks)
    yield 0, COMMIT
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _implicit_commit(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, WRITE
    yield 0, sets(0)
    yield 0, run("create table if not exists place (name int)")
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield 0, ROLLBACK
    yield from _asked(0, asks)


def _disconnect(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 0, COMMIT
    yield 0, act("reopen")
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _disconnect_amid(sets: Sets, asks: list[Action]) -> Made:
    yield 0, BEGIN
    yield 0, WRITE
    yield 0, sets(0)
    yield from _asked(0, asks)
    yield 0, act("close")
    yield from _asked(1, asks)
    yield from _asked(0, asks)
    yield 0, act("reopen")
    yield from _asked(0, asks)


def _nextset(sets: Sets, asks: list[Action]) -> Made:
    # While the client reads the first result, the server works on the others: no writes that another session sees.
    action = sets(0)
    ask = next(
        (
            text
            for text in (ask.arguments[0] for ask in asks if ask.arguments)
            if text.startswith("select") and "numbers" not in text
        ),
        "select 1",
    )
    if action.verb == "execute" and len(action.arguments) == 1:
        text = action.arguments[0].rstrip(";").replace("%", "%%")
        both = f"{ask}; {text}; {ask}; select 'last'".replace("%%", "%")
        pins = (*action.pins, *[_BEHIND_MODE] * ("sql_mode" in action.touches))
        yield 0, Action("start", (both,), action.touches, pins, action.holds)
    else:
        yield 0, action
        yield 0, act("start", f"{ask}; {ask}".replace("%%", "%"))
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield 0, act("fetch")
    yield 0, act("nextset")
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield 0, act("nextset")
    yield 0, act("nextset")
    yield 0, act("nextset")
    yield 0, COMMIT
    yield from _asked(0, asks)


def _procedure(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield (
        0,
        act("start", f"call {DATABASE}.results()", pins="UNKNOWN_ROUTINE"),
    )  # asked for where one USEs another database
    yield 1, sets(1)
    yield 0, act("nextset")
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _warnings(sets: Sets, asks: list[Action]) -> Made:
    action = sets(0)
    if action.verb == "execute":
        yield 0, Action("warned", action.arguments, action.touches, action.pins, action.holds)
        yield 1, act("warned", "select 'x' + 0")
        yield 0, act("warned", f"call {DATABASE}.note('x')", pins="UNKNOWN_ROUTINE")
        yield 0, act("ping")
        yield from _asked(0, asks)


def _back(sets: Sets, asks: list[Action]) -> Made:
    action = sets(0)
    yield 0, action
    for name in action.touches:
        yield 0, run(f"set {name} = {'null' if name.startswith('@') else 'default'}", touches=name)
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


def _stream(sets: Sets, asks: list[Action]) -> Made:
    yield 0, sets(0)
    yield 0, act("start_stream", "select * from (select 1 as n union all select 2 union all select 3) t")
    yield 1, sets(1)
    yield 0, act("end_stream")
    yield from _asked(1, asks)
    yield 1, ROLLBACK
    yield from _asked(0, asks)


Ending = Callable[[Sets, list[Action]], Made]
ENDINGS: Mapping[str, tuple[Ending, bool]] = {
    "autocommit": (_autocommit, True),
    "without autocommit": (_autocommit, False),
    "two at once": (_two_at_once, True),
    "two at once without autocommit": (_two_at_once, False),
    "commit": (_commit, True),
    "rollback": (_rollback, False),
    "open at once": (_open_at_once, True),
    "savepoint": (_savepoint, True),
    "error": (_error, True),
    "implicit commit": (_implicit_commit, False),
    "disconnect": (_disconnect, False),
    "disconnect amid": (_disconnect_amid, True),
    "nextset": (_nextset, True),
    "procedure": (_procedure, True),
    "warnings": (_warnings, True),
    "back": (_back, True),
    "stream": (_stream, True),
}
"""What happens then, and whether the sessions are in autocommit mode."""


def programs(way: Way) -> Iterator[Program]:
    """A way with each ending."""
    for name, (ending, autocommit) in ENDINGS.items():
        made = list(ending(way, probes(way.name)))
        login = AUTOCOMMIT if autocommit else TRANSACTIONS
        if made:
            steps = tuple(Step(session, action, not way.holds) for session, action in made)
            yield Program(steps, (login, login), f"{way}, {name}")


# Stories -----------------------------------------------------------------------------------------------------


def _story(name: str, *steps: tuple[int, Action], pins_end: bool = False, looks: bool = True, **login: Any) -> Program:
    """Steps of sessions in autocommit mode, unless `login` says otherwise."""
    arguments = {**AUTOCOMMIT, **login}
    sessions = 1 + max(session for session, _ in steps)
    return Program(
        tuple(Step(*step, looks) for step in steps), (arguments,) * max(2, sessions), name, pins_end=pins_end
    )


def _by(session: int, *actions: Action) -> tuple[tuple[int, Action], ...]:
    return tuple((session, action) for action in actions)


_TEMP = run("create temporary table scratch (word varchar(100))", pins="TEMP_TABLE")
_SCRATCH = run("select * from scratch")
_READY = run("prepare ready from 'select name from place'", pins="PREPARED_STATEMENT")
_LOCK, _UNLOCK = (
    run("select get_lock('one', 0)", pins="NAMED_LOCK"),
    run("select release_lock('one')", pins="NAMED_LOCK"),
)
_NUMBER = run("insert into numbers_0 (word) values ('new')")
_LAST, _COUNT, _FOUND = (
    run(f"select {question}()", asks=True) for question in ("last_insert_id", "row_count", "found_rows")
)
_ZONE = run("select @@time_zone, from_unixtime(86400)")

STORIES = (
    # Pins, and how they end
    _story(
        "a temporary table, dropped",
        *_by(0, run("set time_zone = '+09:00'", touches="time_zone"), _TEMP),
        *_by(0, run("insert into scratch values ('mine')")),
        *_by(1, _SCRATCH, _ZONE),
        *_by(0, _SCRATCH, run("drop temporary table scratch", pins="TEMP_TABLE"), _ZONE),
        *_by(1, _ZONE),
        pins_end=True,
    ),
    _story(
        "temporary tables of two sessions, and of two databases",
        *_by(0, _TEMP, run("insert into scratch values ('of none')")),
        *_by(1, _TEMP, run("insert into scratch values ('of one')")),
        *_by(0, run(f"use {DATABASE}_0"), _SCRATCH, _TEMP, run(f"drop table {DATABASE}.scratch", pins="TEMP_TABLE")),
        *_by(0, _SCRATCH, run("drop table scratch", pins="TEMP_TABLE"), _SCRATCH),
        *_by(1, _SCRATCH, run("drop table scratch", pins="TEMP_TABLE")),
        pins_end=True,
    ),
    _story(
        "prepared in SQL, deallocated",
        *_by(0, _READY, run("execute ready")),
        *_by(1, run("execute ready", pins="PREPARED_STATEMENT")),
        *_by(0, run("deallocate prepare ready", pins="PREPARED_STATEMENT"), run("select name from place")),
        pins_end=True,
    ),
    _story(
        "a named lock, released",
        *_by(0, _LOCK, _LOCK, _UNLOCK),
        *_by(1, _LOCK),
        *_by(0, _UNLOCK, _UNLOCK),
        *_by(1, _LOCK, run("select release_all_locks()", pins="NAMED_LOCK")),
        pins_end=True,
    ),
    _story(
        "locked tables, unlocked",
        *_by(0, run("lock tables items_0 write, place read", pins="TABLE_LOCK"), WRITE, READ),
        *_by(0, run("select * from numbers_0"), run("unlock tables", pins="TABLE_LOCK")),
        *_by(0, run("select * from numbers_0")),
        *_by(1, READ),
        pins_end=True,
    ),
    _story(
        "a handler, closed",
        *_by(0, WRITE, run("handler items_0 open", pins="HOLD_CURSOR")),
        *_by(0, run("handler items_0 read first", pins="HOLD_CURSOR")),
        *_by(1, run("select name from place")),
        *_by(0, run("handler items_0 close", pins="HOLD_CURSOR"), READ),
        pins_end=True,
    ),
    _story(
        "a variable of a kind that cannot be moved, and then of one that can",
        *_by(0, run("set @a = 1.50", touches="@a", pins="USER_VARIABLE"), run("select @a + 1")),
        *_by(1, run("set @a = 'of one'", touches="@a")),
        *_by(0, run("set @a = 5", touches="@a"), run("select @a + 1")),
        *_by(1, run("select @a")),
        pins_end=True,
    ),
    # What was done last
    _story("what was done last by nobody", *_by(0, _LAST, _COUNT, _FOUND), looks=False),
    _story("what was done last by oneself", *_by(0, _NUMBER, _LAST, _NUMBER, _COUNT), looks=False),
    _story("what was done last by another", *_by(0, _NUMBER), *_by(1, _NUMBER, _LAST), *_by(0, _LAST), looks=False),
    _story(
        "what was done last in a transaction",
        *_by(0, act("begin"), _NUMBER, _LAST, run("select 1 union select 2"), _FOUND, act("commit"), _LAST),
        *_by(1, _LAST),
        looks=False,
    ),
    _story(
        "rows counted without the limit",
        (0, run("select sql_calc_found_rows 1 union all select 2 limit 1", holds=True)),
        *_by(1, run("select 1"), _FOUND),
        *_by(0, _FOUND),
        looks=False,
    ),
    _story(
        "warnings of one's own",
        *_by(0, run("select 'x' + 0")),
        *_by(1, run("select 1 / 0, 'y' + 0"), act("show_warnings")),
        *_by(0, act("show_warnings"), act("warned", "insert into items_0 values (1, repeat('x', 200))")),
        *_by(1, act("show_warnings"), act("warned", "drop table if exists not_there")),
        looks=False,
    ),
    # Texts that depend on the mode
    _story(
        "parameters under modes of their own",
        *_by(0, run("set sql_mode = 'NO_BACKSLASH_ESCAPES'", touches="sql_mode")),
        *_by(1, run("select %s, %s", "a\\' or 1 -- ", 'b\\"')),
        *_by(0, run("select %s, %s", "a\\' or 1 -- ", 'b\\"'), act("mogrify", "select %s", ["\\'"])),
        *_by(1, run("set sql_mode = 'ANSI_QUOTES'", touches="sql_mode"), act("mogrify", "select %s", ["\\'"])),
        *_by(1, run('select "name" from "place"'), run("select %s", 'it\'s "')),
        *_by(0, run("set sql_mode = default", touches="sql_mode"), act("mogrify", "select %s", ["\\'"])),
    ),
    _story(
        "a mode from the start",
        *_by(0, run('select "name" from "place"'), run("set sql_mode = ''", touches="sql_mode"), run('select "name"')),
        *_by(1, run('select "name" from "place"')),
        *_by(0, act("reopen"), run('select "name" from "place"')),
        sql_mode="ANSI_QUOTES",
    ),
    _story(
        "a command at the start",
        *_by(0, _ZONE, run("set time_zone = '+02:00', @started = 7", touches="time_zone @started"), _ZONE),
        *_by(1, _ZONE, run("select @started")),
        *_by(0, run("set time_zone = default", touches="time_zone"), _ZONE, act("reopen"), _ZONE),
        init_command="set time_zone = '+09:00', @started = 'yes'",
    ),
    _story(
        "a charset from the start",
        *_by(0, run("select 'é', length('é'), collation('é')"), run("set names utf8mb4", touches=_CHARSET)),
        *_by(1, run("select 'é', length('é'), collation('é')")),
        *_by(0, run("select length('é'), collation('é')"), act("set_character_set", "latin1"), run("select 'é'")),
        charset="latin1",
    ),
    # Transactions
    _story(
        "autocommit on and off",
        *_by(0, WRITE, act("autocommit", False), run("insert into items_0 values (2, 'two')")),
        *_by(1, READ),
        *_by(0, act("autocommit", True)),
        *_by(1, READ, run("set autocommit = 0", touches="autocommit"), READ, act("rollback")),
        *_by(0, act("autocommit", True), READ),
    ),
    _story(
        "a transaction with its own isolation",
        (0, run("set transaction isolation level serializable, read only", holds=True)),
        *_by(0, act("begin"), WRITE, READ, act("commit"), WRITE, act("rollback"), READ),
        *_by(1, READ),
        looks=False,
    ),
    _story(
        "a transaction across databases",
        *_by(0, act("begin"), WRITE, run(f"use {DATABASE}_0"), run("select name from place"), act("rollback")),
        *_by(1, READ),
        *_by(0, run("select name from place"), run(f"select * from {DATABASE}.items_0")),
    ),
    _story(
        "a procedure that fails amid",
        *_by(0, act("start", f"call {DATABASE}.results()"), act("nextset")),
        *_by(1, act("warned", f"call {DATABASE}.note('x')")),
        *_by(0, act("nextset"), act("nextset"), act("nextset"), run("select 1")),
    ),
    _story(
        "an unbuffered cursor beside another session",
        (0, act("start_stream", "select 1 union all select 2 union all select 3")),
        *_by(1, run("select name from place")),
        *_by(0, act("end_stream"), run("select 1"), act("stream", "select 1 union all select 2", 1), run("select 2")),
    ),
)  # fmt: skip
