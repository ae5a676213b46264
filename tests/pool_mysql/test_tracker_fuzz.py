"""Texts that leave nothing behind but the settings they name, by the lexer's word, and what the trackers say."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from typing import Any

import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib import sql_mysql_builtins as builtins
from rdsproxy_lib.backend import OpenFailed
from rdsproxy_lib.engines.mysql_tracking import AUTOCOMMIT, IN_TRANSACTION
from rdsproxy_lib.faces.mysql_statements import WITHOUT_TRIGGERS
from rdsproxy_lib.sql import classify_filled

STATEMENTS = 6_000
STATEMENTS_OF_A_LONG_RUN = 30_000


def words(text: str) -> list[str]:
    return text.split()


# What would wait, end something, or change the server for other tests.
NOT_RUN = re.compile(
    r"sleep|benchmark|shutdown|restart|kill|wait|password|identified|global|persist|outfile|dumpfile|user|reset|purge"
    r"|install|clone|binlog|stop|start\s+(slave|replica|group)|flush|grant|revoke|change|load|server|while|loop|repeat\s"
    r"|recursive|pause|hang|database|schema|event|instance|undo|tablespace|logfile|backup|uninstall|import|charset",
    re.IGNORECASE,
)

FUNCTIONS = sorted(builtins.FUNCTIONS | builtins.MYSQL_FUNCTIONS | builtins.MARIADB_FUNCTIONS)
VARIABLES = words(
    """
sql_mode autocommit time_zone foreign_key_checks unique_checks sql_log_bin character_set_client
max_statement_time tx_isolation transaction_isolation lc_time_names
    """
)
CONSTANTS = words(
    "1 0 -1 1e5 .5 0x41 0b1 null true 'a' 'it''s' 'a\\'b' \"q\" '' x'41' b'1' n'n' _utf8mb4'u' date'2020-01-02' "
    "'{\"a\":1}' '$.a' '@x:=1' '/*' '--' ';' 'point(1 1)' timestamp'2020-01-02 03:04:05'"
)
NAMES = words("t1 t2 `t1` `a` a b t1.a `t1`.`b` `it``s` x $y é")
BLANKS = (
    " ",
    "  ",
    "\n",
    "\t",
    "/**/",
    " /* c */ ",
    "-- c\n",
    "# c\n",
    " /*! */ ",
    "/*! ",
    " */ ",
    "/*!99999 ",
    "/*M! ",
)
TROUBLE = words(
    """
@x:=1 := @x @@sql_mode @@session.sql_mode @@ @ set session local temporary into ; prepare execute begin end not
 atomic sql_calc_found_rows get_lock( nextval( ' \" ` /* */ /*! /*M!100000 -- # \\ ( ) , . = call for statement
 names transaction lock tables handler open use role default identity { } fn value next row
    """
)


class Grammar:
    """Random statements of MySQL and MariaDB."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def blank(self) -> str:
        return self.dice.choice(BLANKS) if self.dice.random() < 0.06 else " "

    def expression(self, depth: int = 0) -> str:
        dice, way = self.dice, self.dice.random()
        if depth > 2 or way < 0.3:
            return dice.choice(CONSTANTS)
        if way < 0.45:
            return dice.choice(NAMES)
        if way < 0.75:
            name = dice.choice(FUNCTIONS)
            name = name.upper() if dice.random() < 0.2 else name
            arguments = ", ".join(self.expression(depth + 1) for _ in range(dice.randrange(4)))
            return f"{name}{' ' if dice.random() < 0.1 else ''}({arguments})"
        if way < 0.8:
            return dice.choice(
                ("@x", "@`x y`", "@'x'", "@@" + dice.choice(VARIABLES), "@@session." + dice.choice(VARIABLES))
            )
        if way < 0.82:
            return f"(@x := {self.expression(depth + 1)})"
        if way < 0.88:
            return f"({self.query(depth + 1)})"
        if way < 0.92:
            return f"case when {self.expression(depth + 1)} then 1 else {self.expression(depth + 1)} end"
        operator = dice.choice(
            ("+", "-", "=", "<=>", "and", "or", "like", "in (1,2) or", "is null or", "||", "->>", "regexp")
        )
        return f"{self.expression(depth + 1)} {operator} {self.expression(depth + 1)}"

    def query(self, depth: int = 0) -> str:
        dice = self.dice
        text = "select " + dice.choice(
            ("", "", "distinct ", "sql_no_cache ", "/*+ max_execution_time(1000) */ ", "all ")
        )
        text += ", ".join(self.expression(depth + 1) for _ in range(dice.randrange(1, 3)))
        if dice.random() < 0.5:
            text += " from " + dice.choice(
                ("t1", "t2 as q", "t1 join t2 on t1.a = t2.a", "(select 1 as a, 2 as b) as d", "dual")
            )
            if dice.random() < 0.5:
                text += f" where {self.expression(depth + 1)}"
            text += dice.choice(("", "", " group by 1", " order by 1 desc", " limit 1", " having 1", " limit 0, 1"))
            if not depth:
                text += dice.choice(
                    ("", "", "", " for update", " lock in share mode", " for update skip locked", " into @x")
                )
        if depth < 2 and dice.random() < 0.1:
            text += dice.choice((" union ", " union all ", " except ")) + self.query(depth + 1)
        return text

    def write(self) -> str:
        dice = self.dice
        table = dice.choice(("t1", "t2", "`t1`"))
        value = self.expression(1)
        return dice.choice(
            (
                f"insert into {table} (a, b) values (1, {value})",
                f"insert ignore {table} values ({value}, {self.expression(1)})",
                f"insert {table} set b = {value}",
                f"insert into {table} (b) select {value} from t2",
                f"insert into {table} (a) values (1) on duplicate key update b = {value}",
                f"replace into {table} (b) values ({value})",
                f"update {table} set b = {value} where a = {self.expression(1)}",
                f"update t1, t2 set t1.b = {value} where t1.a = t2.a limit 1",
                f"delete from {table} where a = {value}",
                f"delete q from {table} as q where {value} limit 3",
                f"insert into {table} (b) values ({value}) returning a, {self.expression(1)}",
            )
        )

    def show(self) -> str:
        return self.dice.choice(
            (
                "show tables",
                "show full columns from t1",
                "show create table t1",
                "show index from t1",
                "show warnings",
                "show errors",
                "show count(*) warnings",
                "show variables like 'sql_mode'",
                "show session status like 'Uptime'",
                "show engines",
                "show table status like 't1'",
                "show grants",
                "show triggers",
                "show open tables like 't1'",
                "describe t1",
                "desc t1 a",
                "explain select 1",
                "explain format=json select * from t1",
                "analyze select 1",
                "explain analyze select 1",
                "explain update t1 set b = (@x := 1)",
                "explain select @x := 1 from t1",
                f"explain {self.query()}",
                "help 'select'",
                "show profiles",
                "checksum table t1",
                "show procedure status limit 1",
                f"show variables where {self.expression()}",
                f"show tables where {self.expression()}",
                "show collation like 'x'",
            )
        )

    def setting(self) -> str:
        dice = self.dice
        name, value = dice.choice(VARIABLES), self.expression(1)
        return dice.choice(
            (
                f"set {name} = {value}",
                f"set @@{name} := {value}",
                f"set session {name} = {value}",
                f"set @x = {value}",
                f"set local {name} = default",
                f"set @@session.{name} = @@{name}",
                "set names utf8mb4",
                "set names latin1",
                "set autocommit = 1",
                "set autocommit = on",
                "set @@autocommit = 1",
                "set session autocommit = 1",
                "set transaction read only",
                "set session transaction read write",
                "set transaction isolation level read committed",
                "set role none",
                "set character set utf8mb4",
                f"set statement max_statement_time = 1 for {self.query()}",
                f"set statement {name} = {value} for {self.write()}",
                f"set autocommit = 1, {name} = {value}",
                f"set {name} = {value}, autocommit = 1",
                "set @@local.autocommit = 1",
                "set `autocommit` = 1",
            )
        )

    def other(self) -> str:
        dice = self.dice
        value = self.expression(1)
        return dice.choice(
            (
                "begin",
                "begin work",
                "start transaction",
                "start transaction read only",
                "commit",
                "rollback",
                "commit and chain",
                "rollback and chain",
                "commit release",
                "savepoint s",
                "rollback to s",
                "release savepoint s",
                "xa recover",
                "start transaction with consistent snapshot",
                "xa start 'x'",
                "xa end 'x'",
                "xa rollback 'x'",
                "unlock tables",
                f"do {value}",
                f"call p({value})",
                f"signal sqlstate '01000' set message_text = {value}",
                "resignal",
                f"prepare s from {value}",
                "execute s",
                f"execute immediate {value}",
                "deallocate prepare s",
                "drop prepare s",
                "get diagnostics @x = number",
                "get diagnostics condition 1 @x = message_text",
                "handler t1 open",
                "handler t1 close",
                "handler t1 read first",
                "use mysql",
                "lock tables t1 read",
                "lock table t1 write",
                "values row(1, 2)",
                "values (1)",
                "table t1",
                "table t1 into @x",
                "begin not atomic set @x = 1; end",
                f"with q as ({self.query(1)}) select * from q",
                "with q as (select 1 as a) update t1, q set b = q.a",
                f"select {value} into @x",
                f"select {value} into @x, @`y`",
                f"select nextval(sq), {value}",
                "select next value for sq",
                "select previous value for sq",
                "select lastval(sq)",
                f"select f({value})",
                f"select test.f({value})",
                f"select {{fn now()}}, {{d '2020-01-02'}}, {{x {value}}}",
                "select * from t1 procedure analyse()",
                f"select sql_calc_found_rows {value}",
                "select 1;",
                "select 1; ; ",
                "",
                ";",
                "-- nothing",
                "/* nothing */",
                "/*! select 1 */",
                "/*!50000 select @x := 1 */",
                "/*!99999 set @x = 1 */",
                "/*M! set @x = 1 */",
                "/*!100000 set time_zone = '+01:00' */ select 1",
                "select 1 /*!50000 , @x := 1 */",
                "select /*+ set_var(sort_buffer_size = 300000) */ 1",
                "select /*+ set_var(sql_mode = 'ansi') */ 1",
            )
        )

    def definition(self) -> str:
        value = self.expression(1)
        return self.dice.choice(
            (
                "create table if not exists t3 (a int)",
                "drop table if exists t3",
                f"create table t3 as {self.query(1)}",
                f"create table t3 (a int default ({value}))",
                "create temporary table t4 (a int)",
                "drop temporary table if exists t4",
                f"create or replace view v as {self.query(1)}",
                "drop view if exists v",
                "alter table t1 add column z int",
                "alter table t1 drop column z",
                "truncate table t2",
                "rename table t3 to t5",
                "drop table if exists t5, t3",
                "create index i on t1 (b(3))",
                "drop index i on t1",
                "analyze table t1",
                "check table t1",
                "optimize table t2",
                "create sequence if not exists sq",
                "drop sequence if exists sq",
                "repair table t1",
            )
        )

    def statement(self) -> str:
        dice, way = self.dice, self.dice.random()
        if way < 0.4:
            text = self.query()
        elif way < 0.55:
            text = self.write()
        elif way < 0.62:
            text = self.show()
        elif way < 0.77:
            text = self.setting()
        elif way < 0.99:
            text = self.other()
        else:
            text = self.definition()
        if dice.random() < 0.35:
            text = self.troubled(text)
        if dice.random() < 0.2:
            text = "".join(char.upper() if dice.random() < 0.5 else char for char in text)
        return re.sub(" ", lambda _: self.blank(), text)

    def troubled(self, text: str) -> str:
        """The statement with words put in, left out, swapped, or taken from another one."""
        dice = self.dice
        words = re.findall(r"\w+|\s+|[^\w\s]", text)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(words) + 1)
            way = dice.randrange(4)
            if way == 0:
                words.insert(at, f" {dice.choice(TROUBLE)} ")
            elif way == 1 and words:
                del words[at : at + dice.randrange(1, 3)]
            elif way == 2 and len(words) > 1:
                other = dice.randrange(len(words))
                words[at % len(words)], words[other] = words[other], words[at % len(words)]
            else:
                words[at:at] = [" ", dice.choice((self.query, self.write, self.setting, self.other))(), " "]
        return "".join(words)[:2000]


def are_global(engine: Any, wire: Any, names: set[str]) -> bool:
    """Whether these variables have the server's values."""
    try:
        asked = " AND ".join(f"@@session.{name} <=> @@global.{name}" for name in names)
        ((answer,),) = engine._run(wire, f"SELECT {asked}")
    except pymysql.err.MySQLError:  # one is there for sessions only
        return False
    return bool(answer)


def run(server: Any, count: int, seed: int) -> dict[str, Any]:
    """Run statements that are called harmless on one connection; returns what the trackers said against it."""
    grammar = Grammar(random.Random(seed))
    proxy = rdsproxy_lib.Proxy(server.url())
    engine = proxy.engine
    backend = None
    numbers = {"generated": 0, "harmless": 0, "answered": 0, "crashes": 0}
    against: dict[str, tuple[str, list[str]]] = {}
    before = ""
    while numbers["harmless"] < count:
        if backend is None or backend.is_dead():
            try:
                backend = engine.open(proxy._login(None, None, {}), 10)
            except OpenFailed:  # some statements end MariaDB
                print(f"the server crashed at {before!r}")
                numbers["crashes"] += 1
                server.kill()
                server.start()
                continue
            wire, tracked = backend.raw, backend.tracked
            tracked.changes.clear()
        text = grammar.statement()
        numbers["generated"] += 1
        if NOT_RUN.search(text):
            continue
        statement = classify_filled(text, tracked.dialect)
        if statement.causes:
            continue
        numbers["harmless"] += 1
        earlier, before = before, text
        try:
            wire.query(text)
            numbers["answered"] += 1
            while wire._result.has_next:
                wire.next_result()
        except (pymysql.err.Error, ValueError, ArithmeticError):
            if wire._sock is None:
                continue
        changes = set(tracked.changes) - {setting.name for setting in statement.settings}
        tracked.changes.clear()
        if statement.settings or statement.frees:
            changes -= {"state"}
        if "autocommit" in changes and {part.verb for part in statement.parts} <= WITHOUT_TRIGGERS:
            changes -= {"autocommit", "state"}
        if changes - {"state"} and are_global(engine, wire, changes - {"state"}):
            changes = set()  # MariaDB tells of SET STATEMENT, which takes back what it set, also later
        if statement.parts[-1].verb == "DROP TABLE":
            changes -= {"state"}  # MySQL tells so of a temporary table that there is not
        if changes:
            against.setdefault(statement.digest[:80], (text, [*sorted(changes), f"before: {earlier}"]))
        if changes or not wire.server_status & AUTOCOMMIT:
            wire._force_close()
        elif statement.settings:
            engine.reset(backend)
        elif wire.server_status & IN_TRANSACTION and grammar.dice.random() < 0.3:
            with suppress(pymysql.err.Error):
                wire.query("ROLLBACK")
    engine.close(backend)
    proxy.close()
    return {"numbers": numbers, "against": against}


def check(server: Any, count: int) -> None:
    with server.admin(database="app") as admin, admin.cursor() as cursor:
        for number in (1, 2):
            cursor.execute(f"create table t{number} (a int primary key auto_increment, b varchar(40)) engine=innodb")
            cursor.execute(f"insert into t{number} (b) values ('1'), ('x'), (null)")
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    found = run(server, count, seed)
    print(found["numbers"])
    lines = [f"{text!r}: {changes}" for text, changes in found["against"].values()]
    assert not lines, "called harmless, but the server reports a change:\n" + "\n".join(lines)
    assert found["numbers"]["answered"] > count // 8


def test_what_is_called_harmless_trips_no_tracker(private_mysql_server):
    """Thousands of random statements: of none that pins nothing the server reports a change that the text hides."""
    check(private_mysql_server, STATEMENTS)


@pytest.mark.long
def test_what_is_called_harmless_trips_no_tracker_at_length(private_mysql_server):
    """The same with ten times as many."""
    check(private_mysql_server, STATEMENTS_OF_A_LONG_RUN)
