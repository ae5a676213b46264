"""Routines judged from their bodies: many bodies, the calls between them, and how long a verdict holds."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import pytest

from rdsproxy_lib import routines
from rdsproxy_lib.routines import (
    BODIES,
    HARMLESS,
    KEPT_SECONDS,
    KEPT_VERDICTS,
    ROUNDS,
    Catalogue,
    Inquiry,
    RoutineBody,
    Verdict,
    changes_routines,
    judged,
    psm_bodies,
)
from rdsproxy_lib.sql import Reason, Routine, classify

PLPGSQL: list[tuple[str, str]] = [
    # nothing but the language itself
    ("begin end", ""),
    ("begin return a + 1; end", ""),
    ("begin null; return; end", ""),
    ("declare n int := 0; m constant text not null default 'x'; r t%rowtype; c t.a%type; begin return n; end;", ""),
    ("declare a numeric(10, 2)[] = array[1]; k alias for $1; begin a[1] := 2; k := a[1]; end", ""),
    ("#variable_conflict use_column\nbegin return 1; end", ""),
    ("<<outer>> begin <<inner>> declare x int; begin x := 1; end inner; end outer", ""),
    ("begin if a then return 1; elsif b then return 2; elseif c then return 3; else return 4; end if; end", ""),
    ("begin if exists (select 1 from t) then null; end if; end", ""),
    ("begin case a when 1, 2 then null; else null; end case; case when a then null; end case; end", ""),
    ("begin n := case when a then 1 else 2 end; end", ""),
    ("begin loop exit when n > 5; n := n + 1; continue when n = 3; end loop; end", ""),
    ("begin while n < 5 loop n = n + 1; end loop; end", ""),
    ("begin for i in reverse 10..1 by 2 loop perform lower('a'); end loop; end", ""),
    ("begin for i in 1..array_length(a, 1) loop null; end loop; end", ""),
    ("begin for r in select * from t where a = b loop insert into u values (r.a); end loop; end", ""),
    ("begin for a, b in with x as (select 1) select * from x loop null; end loop; end", ""),
    ("begin for r in insert into t values (1) returning id loop null; end loop; end", ""),
    ("declare c cursor (k int) for select * from t where id = k; begin for r in c(7) loop null; end loop; end", ""),
    ("declare c refcursor; begin open c for select 1; fetch next from c into a; move c; close c; end", ""),
    ("declare c no scroll cursor is select 1; begin open c; end", ""),
    ("begin foreach x slice 1 in array a loop null; end loop; end", ""),
    ("begin raise notice 'x % %%', lower('a') using hint = 'b', errcode = '22012'; raise; end", ""),
    ("begin raise sqlstate '22012'; assert a > 1, 'no'; end", ""),
    ("begin get diagnostics n = row_count; get stacked diagnostics m = message_text; end", ""),
    (
        "begin insert into t values (1); exception when unique_violation or check_violation then"
        " raise notice '%', sqlerrm; when others then return null; end",
        "",
    ),
    ("begin return next r; return next (1, 2); return query select * from t; return query (select 1); end", ""),
    ("begin return query insert into t values (1) returning *; return (select 1); end", ""),
    ('begin new.changed := now(); new."Who" = current_user; return new; end', ""),
    ("begin if tg_op = 'INSERT' then return new; end if; return old; end", ""),
    # statements of SQL
    ("begin select a, b into strict x, y from t for update; end", ""),
    ("begin insert into t (a) values (1) on conflict (a) do update set b = 2 returning id into n; end", ""),
    ("begin update t set a = 1 where id = n; delete from t; truncate t; lock table t; end", ""),
    ("begin merge into t using s on t.id = s.id when matched then delete; end", ""),
    ("begin with x as (delete from t returning *) insert into u select * from x; end", ""),
    ("begin perform pg_notify('a', 'b'); notify a; perform pg_advisory_xact_lock(1); end", ""),
    ("begin perform 1 from t where a = 5 % 3 and b %s; end", ""),
    ("begin create table t (a int); drop table t; create index on t (lower(a)); analyze t; end", ""),
    ("begin create temp table t (a int) on commit drop; insert into t values (1); end", ""),
    ("begin set transaction read only; set constraints all deferred; end", ""),
    ("begin insert into t values (1); commit; rollback and chain; end", ""),
    ("begin perform nextval('s'), setval('s', 7); end", ""),
    ("begin a := 'set x = 1; execute' || $$ set x $$; -- set x\n /* set x */ end", ""),
    # what is named like a verb, and is none
    ("declare reset int; begin reset := 1; reset = reset + 1; end", ""),
    ("begin load.x := 1; end", ""),
    ("begin (select 1); end", ""),
    # what leaves something behind
    ("begin set x = 1; end", "it sets x"),
    ("begin set session x to 1; end", "it sets x"),
    ("begin set local x = 1; end", "SET LOCAL, or a change of routines"),
    ("begin set standard_conforming_strings = on; end", "SET standard_conforming_strings"),
    ("begin reset x; end", "it sets x"),
    ("begin perform set_config($1, $2, false); end", "set_config()"),
    ("begin perform set_config('search_path', $1, false); end", "set_config('search_path', …)"),
    ("begin perform set_config('search_path', path, false); end", "set_config('search_path', …)"),
    ("begin perform set_config('search_path', 'a', false); set search_path = b; end", "it sets search_path"),
    ("begin set transaction_isolation = 'serializable'; end", "SET LOCAL, or a change of routines"),
    ("begin discard temp; discard plans; drop table t; close c; perform pg_advisory_unlock(1); end", ""),
    ("begin reset all; end", "it sets all settings"),
    ("begin set role app; end", "it sets role"),
    ("begin discard all; end", "it sets all settings, role, session_authorization"),
    ("begin perform set_config('a', 'b', false); end", "it sets a"),
    ("begin perform set_config('a.b', 'b', true); end", "SET LOCAL, or a change of routines"),
    ("begin a := pg_catalog.set_config('a', 'b', a); end", "it sets a"),
    ("begin perform pg_advisory_lock(1); end", "pg_advisory_lock()"),
    ("begin perform setseed(0.5); end", "setseed()"),
    ("begin create temp table t (a int); end", "CREATE TEMP TABLE"),
    ("begin create temporary view v as select 1; end", "CREATE TEMP VIEW"),
    ("begin insert into pg_temp.t values (1); end", "pg_temp"),
    ("begin listen a; end", "LISTEN"),
    ("begin load 'x'; end", "LOAD"),
    ("begin prepare p as select 1; end", "PREPARE"),
    ("begin update pg_settings set setting = 'a'; end", "UPDATE pg_settings"),
    ("begin create function f() returns int language sql as 'select 1'; end", "SET LOCAL, or a change of routines"),
    # in every place
    ("begin if a then set x = 1; end if; end", "it sets x"),
    ("begin if pg_try_advisory_lock(1) then null; end if; end", "pg_try_advisory_lock()"),
    ("begin if a then null; elsif setseed(1) is null then null; end if; end", "setseed()"),
    ("begin if a then null; else listen a; end if; end", "LISTEN"),
    ("begin loop set x = 1; end loop; end", "it sets x"),
    ("begin while setseed(1) is null loop null; end loop; end", "setseed()"),
    ("begin while a loop reset x; end loop; end", "it sets x"),
    ("begin for i in 1..set_config('a', 'b', false)::int loop null; end loop; end", "it sets a"),
    ("begin for r in select set_config('a', 'b', false) loop null; end loop; end", "it sets a"),
    ("begin for i in 1..2 loop set x = 1; end loop; end", "it sets x"),
    ("begin for r in c(setseed(1)) loop null; end loop; end", "setseed()"),
    ("begin foreach a in array array[setseed(1)] loop null; end loop; end", "setseed()"),
    ("begin case setseed(1) when 1 then null; end case; end", "setseed()"),
    ("begin case a when setseed(1) then null; end case; end", "setseed()"),
    ("begin case when a then set x = 1; end case; end", "it sets x"),
    ("begin case a when 1 then null; else set x = 1; end case; end", "it sets x"),
    ("begin null; exception when others then set x = 1; end", "it sets x"),
    ("begin begin set x = 1; end; end", "it sets x"),
    ("begin declare y int; begin set x = 1; end; end", "it sets x"),
    ("<<b>> begin <<c>> loop set x = 1; end loop; end", "it sets x"),
    ("declare n int := setseed(1); begin end", "setseed()"),
    ("declare n int default setseed(1); begin end", "setseed()"),
    ("declare n text = set_config('a', 'b', false); begin end", "it sets a"),
    ("declare c cursor for select setseed(1); begin end", "setseed()"),
    ("begin open c for select setseed(1); end", "setseed()"),
    ("begin open c(setseed(1)); end", "setseed()"),
    ("begin return setseed(1); end", "setseed()"),
    ("begin return next setseed(1); end", "setseed()"),
    ("begin return query select setseed(1); end", "setseed()"),
    ("begin raise notice '%', setseed(1); end", "setseed()"),
    ("begin raise exception using message = set_config('a', 'b', false); end", "it sets a"),
    ("begin assert setseed(1) is null; end", "setseed()"),
    ("begin exit when setseed(1) is null; end", "setseed()"),
    ("begin a[setseed(1)] := 1; end", "setseed()"),
    ("begin a.b := setseed(1); end", "setseed()"),
    ("begin select setseed(1) into a; end", "setseed()"),
    ("begin call p(setseed(1)); end", "setseed()"),
    # another session's sequence values
    ("begin return currval('s'); end", "it asks what the session did before"),
    ("begin perform nextval('s'); return lastval(); end", "it asks what the session did before"),
    # text that becomes code
    ("begin execute 'select 1'; end", "EXECUTE"),
    ("begin execute format('set x = %L', a) into b using c; end", "EXECUTE"),
    ("begin if a then execute q; end if; end", "EXECUTE"),
    ("begin for r in execute 'select 1' loop null; end loop; end", "EXECUTE"),
    ("begin return query execute 'select 1'; end", "EXECUTE"),
    ("begin open c for execute 'select 1'; end", "EXECUTE"),
    ("begin do $$ begin end $$; end", "DO"),
    # what is no statement we know
    ("begin frobnicate x; end", "FROBNICATE"),
    ("begin if a; end if; end", "IF"),
    ("begin for i in 1..2; end", "FOR"),
    ("begin transaction; end", "TRANSACTION"),
    ('begin perform U&"f"(1); end', 'U&"…" identifier'),
    ("begin perform (x).f(1); end", "f()"),
    ("begin perform a.b.c(1); end", "a.b.c()"),
    # a string ends where the setting of the session says
    ("begin a := 'x\\'; set x = 1; --'; end", "it sets x"),
    ("begin a := 'x\\''; set x = 1; --'; end", "it sets x"),
]


def effect(routine: RoutineBody) -> str:
    """What speaks against it, or what it sets."""
    found = judged(routine)
    return found.why or ("it sets " + ", ".join(sorted(found.settings)) if found.settings else "")


@pytest.mark.parametrize(("body", "why"), PLPGSQL)
def test_plpgsql(body: str, why: str) -> None:
    """Each body is harmless, or what speaks against it is named."""
    assert effect(RoutineBody("public", "f", "plpgsql", body)) == why


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ("begin perform f(1); a := s.g(f(2)); end", ["f", "s.g"]),
        ('begin call p(1); call s."Q"(); end', ["p", "s.Q"]),
        ("begin call lower(); end", ["lower"]),
        ("declare n int := f(); c cursor for select g(); begin end", ["f", "g"]),
        ("begin if f() then null; elsif g() then null; end if; end", ["f", "g"]),
        ("begin for r in select * from f() loop perform g(); end loop; end", ["f", "g"]),
        ("begin for i in f()..g() loop null; end loop; end", ["f", "g"]),
        ("begin for i in reverse 1..f(n) loop null; end loop; for i in n..f(2) by g() loop end loop; end", ["f", "g"]),
        ("begin for r in c(1) loop null; end loop; end", ["c"]),
        ("begin perform lower(a::varchar(3)), count(*), pg_catalog.upper('a'); end", []),
    ],
)
def test_what_a_body_calls(body: str, calls: list[str]) -> None:
    """Every call that is not of a known built-in, with its schema where the text gives one."""
    found = judged(RoutineBody("public", "f", "plpgsql", body))
    assert not found.why
    assert [".".join(filter(None, (each.schema, each.name))) for each in found.calls] == calls


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", ""),
        ("select 1", ""),
        ("insert into t values ($1); select a % 2, b %s from t;", ""),
        ("update t set a = 1 returning a", ""),
        ("create temp table t (a int) on commit drop", ""),
        ("select set_config('a', 'b', false)", "it sets a"),
        ("set x = 1; select 1", "it sets x"),
        ("set standard_conforming_strings = on", "SET standard_conforming_strings"),
        ("select 1; set local x = 1", "SET LOCAL, or a change of routines"),
        ("select 1 into temp t", "SELECT INTO TEMP"),
        ("do 'begin end'", ""),
        ("do $$ begin perform f(); end $$", ""),
        ("do $$ begin set x = 1; end $$", "it sets x"),
        ("do $$ begin listen a; end $$", "DO"),
        ("select currval('s')", "it asks what the session did before"),
        ("frobnicate", "FROBNICATE"),
    ],
)
def test_sql(body: str, why: str) -> None:
    """A body in SQL is a row of statements, each judged as if the application had sent it."""
    assert effect(RoutineBody("public", "f", "sql", body)) == why


@pytest.mark.parametrize(
    ("routine", "why"),
    [
        (RoutineBody("s", "f", "c", "symbol"), "it is in the language c"),
        (RoutineBody("s", "f", "internal", "int4pl"), "it is in the language internal"),
        (RoutineBody("s", "f", "plpython3u", "pass"), "it is in the language plpython3u"),
        (RoutineBody("s", "f", "sql", None), "its body cannot be read"),
        (RoutineBody("s", "f", "psm", None), "its body cannot be read"),
        (RoutineBody("s", "f", "aggregate", None), ""),
        (RoutineBody("s", "f", "sql", "", (Routine("pg_catalog", "lower"),)), ""),
        (RoutineBody("s", "f", "sql", "", (Routine("pg_catalog", "currval"),)), "it asks what the session did before"),
        (RoutineBody("s", "f", "sql", "select 1", (), ("work_mem=5MB", "search_path=a, pg_temp")), ""),
        (RoutineBody("s", "f", "sql", "select 1", (), ("seed=0.5",)), "SET seed in its definition"),
    ],
)
def test_other_kinds_of_routines(routine: RoutineBody, why: str) -> None:
    """Another language or a hidden body proves nothing; what the definition sets, the server takes back."""
    assert judged(routine).why == why


# -- the calls between them


class Database:
    """Answers questions as a catalogue would."""

    def __init__(self, **bodies: str) -> None:
        self.bodies = [
            RoutineBody(*name.split("__"), "sql", body) if "__" in name else RoutineBody("public", name, "sql", body)
            for name, body in bodies.items()
        ]
        self.questions: list[set[str]] = []

    def verdict(self, name: str, *trusted: str) -> Verdict:
        schema, _, name = name.rpartition(".")
        routine = Routine(schema, name)
        inquiry = Inquiry([routine], Catalogue(trusted).is_trusted)
        while inquiry.names:
            self.questions.append({asked.name for asked in inquiry.names})
            inquiry.learn([body for body in self.bodies if body.name in self.questions[-1]])
        assert inquiry.exists(routine) == any(body.name == name for body in self.bodies)
        return inquiry.verdict(routine)


def test_calls_are_followed() -> None:
    """A routine is as harmful as what it calls, and one question answers for all calls of a level."""
    database = Database(f="select g(), h()", g="select i()", h="select 1", i="select setseed(1)")
    assert database.verdict("f") == Verdict(False, "setseed() in i")
    assert database.questions == [{"f"}, {"g", "h"}, {"i"}]
    assert database.verdict("h") == HARMLESS


def test_calls_of_parsed_bodies_are_followed() -> None:
    """What the server has parsed already names what it calls, with the schema."""
    inquiry = Inquiry([Routine("", "f")], Catalogue().is_trusted)
    inquiry.learn([RoutineBody("s", "f", "sql", "", (Routine("s", "g"), Routine("pg_catalog", "int4pl")))])
    assert inquiry.names == {Routine("s", "g"), Routine("pg_catalog", "int4pl")}


def test_circles_end() -> None:
    """Routines that call one another are harmless if all are; each is asked for once."""
    database = Database(f="select g()", g="select f(), g()")
    assert database.verdict("f") == HARMLESS
    assert database.questions == [{"f"}, {"g"}]
    assert not Database(f="select g()", g="select f(); listen x").verdict("f").harmless
    assert Database(f="select g()", g="select f(); set x = 1").verdict("f").settings == {"x"}


def test_all_routines_of_a_name_count() -> None:
    """Which one is called depends on arguments and search_path; with a schema only those in it."""
    database = Database(a__f="select 1", b__f="listen x")
    assert not database.verdict("f").harmless
    assert database.verdict("a.f") == HARMLESS
    assert not database.verdict("b.f").harmless
    overloaded = Database()
    overloaded.bodies = [RoutineBody("a", "f", "sql", "select 1"), RoutineBody("a", "f", "c", None)]
    assert overloaded.verdict("a.f") == Verdict(False, "it is in the language c")


def test_a_name_without_a_routine_is_none() -> None:
    """A type, a column or a cursor before a parenthesis is looked for, and not found."""
    assert Database(f="select (nothing)(1), nothing(2)").verdict("f") == HARMLESS
    assert Database().verdict("f") == HARMLESS


def test_calls_may_not_go_too_deep() -> None:
    """The number of questions is bounded, and what is behind them is not taken for harmless."""
    names = [f"f{number}" for number in range(ROUNDS + 2)]
    database = Database(**{name: f"select {after}()" for name, after in pairwise(names)})
    assert database.verdict("f0") == Verdict(False, f"its calls go too deep in f{ROUNDS}")
    assert len(database.questions) == ROUNDS
    assert database.verdict("f3") == HARMLESS


def test_too_many_of_one_name_are_not_judged() -> None:
    """An answer that may have been cut off proves nothing."""
    database = Database()
    database.bodies = [RoutineBody(f"s{number}", "f", "sql", "select 1") for number in range(BODIES)]
    assert database.verdict("f") == Verdict(False, "too many routines have its name")


def test_a_temporary_search_path_reaches_what_is_called() -> None:
    """With pg_temp first in its definition's search_path, what a routine or its callee creates may be temporary."""
    maker = RoutineBody("public", "maker", "sql", "create table t (a int)")
    caller = RoutineBody("public", "f", "sql", "select maker()", (), ('search_path="pg_temp", public',))
    database = Database()
    database.bodies = [maker, caller]
    assert database.verdict("maker") == HARMLESS
    assert "pg_temp" in database.verdict("f").why
    for path in ("public", "pg_catalog, pg_temp"):
        database.bodies = [maker, RoutineBody("public", "f", "sql", "select maker()", (), (f"search_path={path}",))]
        assert database.verdict("f") == HARMLESS


# -- trust


@pytest.mark.parametrize(
    ("pattern", "routine", "is_trusted"),
    [
        ("st_*", Routine("", "st_area"), True),
        ("ST_*", Routine("", "st_area"), True),
        ("st_*", Routine("gis", "ST_Area"), True),
        ("gis.*", Routine("gis", "st_area"), True),
        ("gis.*", Routine("", "st_area"), False),
        ("gis.st_area", Routine("gis", "st_area"), True),
        ("st_", Routine("", "st_area"), False),
        ("area", Routine("", "st_area"), False),
    ],
)
def test_trusted_routines(pattern: str, routine: Routine, is_trusted: bool) -> None:
    """A pattern names routines, with or without their schema, whatever the case."""
    assert Catalogue(("other", pattern)).is_trusted(routine) is is_trusted
    assert not Catalogue().is_trusted(routine)


def test_trust_ends_the_search() -> None:
    """A trusted routine is not read, neither as the one called nor further down, nor what it calls."""
    database = Database(f="select g()", g="set x = 1")
    assert database.verdict("f", "public.g") == HARMLESS
    assert database.questions == [{"f"}, {"g"}]
    assert database.verdict("f", "g") == HARMLESS
    assert database.questions[2:] == [{"f"}]


# -- what is left of a statement's causes


def test_only_what_is_not_proven_is_left() -> None:
    """Other causes stay; trusted and harmless routines go, for the next statement without a question; settings are
    told."""
    database = Database(f="set y = 1", g="listen x")
    catalogue = Catalogue(("trusted",))
    asked: list[set[str]] = []

    def ask(names: Collection[Routine]) -> list[RoutineBody]:
        asked.append({name.name for name in names})
        return [body for body in database.bodies if body.name in asked[-1]]

    causes = classify("select f(), g(), trusted(), nothing(), a.b.c(), setseed(1)").causes
    for _ in range(2):
        left, settings = catalogue.unproven(causes, "db", 0.0, ask)
        assert [cause.what for cause in left] == ["g(): LISTEN", "a.b.c()", "setseed()"]
        assert settings == {"y"}
    assert asked == [{"f", "g", "nothing"}, {"nothing"}]
    assert catalogue.unproven(classify("select f()").causes, "db", 0.0, ask) == ([], {"y"})
    assert len(asked) == 2


def test_without_an_answer_all_is_left() -> None:
    """What cannot be asked for is not proven, and not remembered."""
    causes = classify("select f(), g()").causes
    catalogue = Catalogue()
    assert catalogue.unproven(causes, "db", 0.0, lambda names: None) == (list(causes), set())
    assert catalogue.known("db", F, 0.0) is None


# -- how long it holds

F = Routine("", "f")


def test_a_verdict_holds_for_its_time() -> None:
    """It is reused by all until the time is over; other databases and schemas have their own."""
    catalogue = Catalogue()
    catalogue.keep("db", F, HARMLESS, 1000.0, catalogue.generation())
    assert catalogue.known("db", F, 1000.0 + KEPT_SECONDS - 1) is HARMLESS
    assert catalogue.known("db", F, 1000.0 + KEPT_SECONDS) is None
    assert catalogue.known("other", F, 1000.0) is None
    assert catalogue.known("db", Routine("s", "f"), 1000.0) is None


def test_a_change_forgets() -> None:
    """From a change until its transaction is over nothing is kept, and what was asked before its end does not hold."""
    catalogue = Catalogue()
    before = catalogue.generation()
    catalogue.keep("db", F, HARMLESS, 0.0, before)
    over: list[bool] = []
    catalogue.change(lambda: bool(over))
    assert catalogue.known("db", F, 1.0) is None
    amid = catalogue.generation()
    catalogue.keep("db", F, HARMLESS, 1.0, amid)
    assert catalogue.known("db", F, 1.0) is None
    over.append(True)
    assert catalogue.known("db", F, 2.0) is None
    for generation in (before, amid):
        catalogue.keep("db", F, HARMLESS, 2.0, generation)
        assert catalogue.known("db", F, 2.0) is None
    catalogue.keep("db", F, HARMLESS, 3.0, catalogue.generation())
    assert catalogue.known("db", F, 3.0) is HARMLESS


def test_the_number_of_verdicts_is_bounded() -> None:
    """Where there are too many, it begins anew."""
    catalogue = Catalogue()
    names = [Routine("", f"f{number}") for number in range(KEPT_VERDICTS + 1)]
    for name in names:
        catalogue.keep("db", name, HARMLESS, 0.0, catalogue.generation())
    assert [name for name in names if catalogue.known("db", name, 1.0)] == names[-1:]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("create or replace function f() returns int language sql as 'select 1'", True),
        ("alter procedure p() rename to q", True),
        ("drop routine f", True),
        ("create aggregate a (int) (sfunc = int4pl, stype = int)", True),
        ("create extension x", True),
        ("alter schema a rename to b", True),
        ("create flux x", True),
        ("create table t (a int)", False),
        ("create schema a", False),
        ("select 1", False),
    ],
)
def test_which_statements_change_routines(text: str, changes: bool) -> None:
    """Their verbs tell; and such a statement is not plain, so that the client looks at it."""
    statement = classify(text)
    assert changes_routines(statement.parts[0].verb) is changes
    if changes:
        assert statement.changes_plans
        assert not statement.is_plain


# -- what the text names


@pytest.mark.parametrize(
    ("text", "routines"),
    [
        ("select f(1)", {"f()": ("", "f")}),
        ('select S.F(1), "S"."F"(2)', {"s.f()": ("s", "f"), '"S"."F"()': ("S", "F")}),
        ("call s.p(g(1))", {"CALL": ("s", "p"), "s.p()": ("s", "p"), "g()": ("", "g")}),
        ("call lower(1)", {"CALL": ("", "lower")}),
        ("call a.b.p(1)", {"CALL": None, "a.b.p()": None}),
        ("select a.b.f(1)", {"a.b.f()": None}),
        ("select (x).f(1)", {"f()": None}),
        ("select x %s(1)", {"%s()": None}),
        ('select "a""b"(1)', {'"""()': None}),
        ("select \u00c4(1)", {"\u00c4()": None}),
        ('select "a%%b"(1)', {'"a%%b"()': None}),
        (f"select {'f' * 64}(1)", {f"{'f' * 64}()": None}),
        (f"select {'f' * 63}(1)", {f"{'f' * 63}()": ("", "f" * 63)}),
        ("do 'begin perform f(); call p(); end'", {"f()": ("", "f"), "CALL": ("", "p"), "p()": ("", "p")}),
        ("do 'begin listen x; end'", {"DO": None}),
        ("do 'begin perform currval(x); end'", {"DO": None}),
        ("do 'begin perform f(%s); end'", {"DO": None}),
        ("do 'begin perform f(%(a)s); end'", {"DO": None}),
        ("do 'begin raise notice ''a''; end'", {"DO": None}),
        ("do language plpython3u 'pass'", {"DO": None}),
        ("do E'begin end'", {"DO": None}),
        ("do 'begin end' language plpgsql", {}),
        ("do language 'plpgsql' 'begin end'", {}),
        ("do 'begin perform 1 % 2; end'", {}),
        ("do $$ begin perform f(); end $$", {"f()": ("", "f")}),
        ("do $a$ begin perform '$$'; end $a$ language plpgsql", {}),
        ("do $$ begin listen x; end $$", {"DO": None}),
        ("do $$ begin perform '%s'; end $$", {"DO": None}),
        ("do $$ begin end", {"DO": None}),
        ("do $$", {"DO": None}),
    ],
)
def test_the_routine_of_a_cause(text: str, routines: dict[str, tuple[str, str] | None]) -> None:
    """Spelt as the catalogue stores it; where that is not certain there is none, and it pins."""
    causes = [cause for cause in classify(text).causes if cause.reason is Reason.UNKNOWN_ROUTINE]
    found = {
        cause.what: None if cause.routine is None else (cause.routine.schema, cause.routine.name) for cause in causes
    }
    assert found == routines


# -- MySQL and MariaDB

MYSQL: list[tuple[str, str]] = [
    ("return a + 1", ""),
    ("begin end", ""),
    ("begin not atomic select 1; end", ""),
    ("begin declare x, y int default 5; set x = y + 1, y := 2; return x; end", ""),
    ("begin set a = 1; set `b` = 2; set A = b; end", ""),
    ("begin set new.a = 1; end", ""),
    ("begin if a > 1 then set a = 2; elseif b then set a = 3; else set a = 4; end if; end", ""),
    ("begin if case when a then b else a end then set a = 2; end if; end", ""),
    ("begin case a when 1 then set b = 2; else set b = 3; end case; case when a then select 1; end case; end", ""),
    ("begin l: loop leave l; iterate l; end loop l; while a < 5 do set a = a + 1; end while; end", ""),
    ("begin repeat set a = a + 1; until a > 5 end repeat; end", ""),
    ("begin declare c cursor for select id from t; open c; fetch next from c into a, b; close c; end", ""),
    ("begin declare done int default 0; declare continue handler for not found set done = 1; end", ""),
    (
        "begin declare exit handler for sqlexception, sqlstate value '23000', 1062 begin rollback; resignal; end;"
        " declare gone condition for sqlstate '42000'; signal gone set message_text = 'x'; end",
        "",
    ),
    ("begin select x, y into a, b from t where id = 1 for update; select 1 into a; end", ""),
    ("begin insert into t values (a); replace into t values (b); insert ignore into t select 1; end", ""),
    ("begin update t set x = a; delete from t; start transaction; commit; end", ""),
    ("begin get diagnostics condition 1 a = message_text; end", ""),
    ("begin for i in 1 .. 3 do set a = i; end for; end", ""),
    ("begin for r in (select id from t) do set a = r.id; end for; end", ""),
    ("begin select 'set @x = 1; prepare'; -- set @x = 1\n # set @x\n select \"set @x\"; /* set @x */ end", ""),
    # what leaves something behind
    ("set @x = 1", "SET @x"),
    ("begin set @x = 1; end", "SET @x"),
    ("begin set x = 1; end", "SET x"),
    ("begin set @@sort_buffer_size = 1; end", "SET @@sort_buffer_size"),
    ("begin set session sort_buffer_size = 1; end", "SET session"),
    ("begin set a = 1, @x = 2; end", "SET @x"),
    ("begin begin declare sql_mode int; end; set sql_mode = 1; end", "SET sql_mode"),
    ("begin if a then set @x = 1; end if; end", "SET @x"),
    ("begin declare exit handler for sqlexception set @x = 1; end", "SET @x"),
    ("begin case a when 1 then set @x = 1; end case; end", "SET @x"),
    ("begin while a do set @x = 1; end while; end", "SET @x"),
    ("begin l: loop set @x = 1; end loop; end", "SET @x"),
    ("begin repeat set @x = 1; until a end repeat; end", "SET @x"),
    ("begin select 1 into @x; end", "INTO @x"),
    ("begin select 1 into outfile 'x'; end", "INTO outfile"),
    ("begin select 1, 2 into a, @x; end", "INTO @x"),
    ("begin fetch c into @x; end", "INTO @x"),
    ("begin get diagnostics @x = row_count; end", "GET DIAGNOSTICS into a user variable"),
    ("begin prepare s from 'select 1'; end", "PREPARE"),
    ("begin execute s; end", "EXECUTE"),
    ("begin execute immediate 'select 1'; end", "EXECUTE"),
    ("begin /*!40000 set @x = 1 */; end", "a comment that is executed"),
    ("begin /*M!100100 set @x = 1 */; end", "a comment that is executed"),
    ("begin if a; end if; end", "IF"),
    ("begin declare exit handler for 1062,; end", ""),
    ("begin for i in 1 .. 3; end for; end", "FOR"),
    ("begin create temporary table t (a int); end", "CREATE TEMPORARY TABLE"),
    ("begin if get_lock('a', 1) then set a = 1; end if; end", "get_lock()"),
    ("begin declare c int default get_lock('a', 1); end", "get_lock()"),
    ("begin declare c cursor for select get_lock('a', 1); end", "get_lock()"),
    ("return get_lock('a', 1)", "get_lock()"),
    ("begin set a = (@x := 1); end", "it sets @x"),
    ("begin select @x := 1 into a; end", "it sets @x"),
    ("begin update t set a = b where (@n := @n + 1) < 5; end", "it sets @n"),
    ("begin insert into t values (1); set a = last_insert_id(); end", "it asks what the session did before"),
    ("begin savepoint s; end", "SET LOCAL, or a change of routines"),
    ("begin frobnicate; end", "FROBNICATE"),
    ("begin select sql_calc_found_rows 1; end", "SQL_CALC_FOUND_ROWS"),
]


@pytest.mark.parametrize(("body", "why"), MYSQL)
def test_psm(body: str, why: str) -> None:
    """Each body is harmless, or what speaks against it is named; a and b are parameters."""
    assert effect(RoutineBody("db", "p", "psm", body, parameters=("a", "B"))) == why


@pytest.mark.parametrize("mode", ["ANSI_QUOTES", "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES", "ORACLE"])
def test_psm_in_other_modes(mode: str) -> None:
    """A body that is read in another way is not judged."""
    assert judged(RoutineBody("db", "p", "psm", "begin end", sql_mode=mode)).why.startswith("sql_mode")
    assert not judged(RoutineBody("db", "p", "psm", "begin end", sql_mode="STRICT_ALL_TABLES,ANSI")).why


def test_names_of_mysql_have_no_case() -> None:
    """What the text calls P is p in the catalogue."""
    routine = Routine("db", "P")
    inquiry = Inquiry([routine], Catalogue().is_trusted)
    inquiry.learn([RoutineBody("db", "p", "psm", "set @x = 1")])
    assert not inquiry.verdict(routine).harmless


def test_what_mysql_calls_without_a_schema_is_looked_for_beside_the_caller() -> None:
    """Not in the database that the session uses."""
    inner = RoutineBody("db", "p", "psm", "begin call q(); call other.r; set a = f(1) + `G`(2); end", parameters=("a",))
    assert judged(inner).calls == (
        Routine("db", "q"),
        Routine("other", "r"),
        Routine("db", "f"),
        Routine("db", "G"),
    )


def test_two_procedures_with_one_long_beginning_are_two() -> None:
    """Messages cut their names; what is called is not cut."""
    for language in ("psm", "plpgsql"):
        names = [f"{'p' * 40}{number}" for number in range(2)]
        body = f"begin {''.join(f'call {name}(); ' for name in names)} end"
        assert {called.name for called in judged(RoutineBody("db", "p", language, body)).calls} == set(names)


def test_what_mysql_does_not_show_cannot_be_read() -> None:
    """A hidden definition, a package and a name that is not listed pin; names compare without case."""
    rows = [
        ("db", "p", "SQL", "begin set a = 1; end", "", "a,b"),
        ("db", "hidden", "SQL", None, "", None),
        ("db", "script", "EXTERNAL", "return 1", "", None),
    ]
    asked = [Routine("", "P"), Routine("db", "hidden"), Routine("", "script"), Routine("db", "loadable")]
    bodies = psm_bodies(rows, asked, "db")
    inquiry = Inquiry(asked, Catalogue().is_trusted)
    inquiry.learn(bodies)
    assert [inquiry.verdict(routine).harmless for routine in asked] == [True, False, False, False]
    assert bodies[-1] == RoutineBody("db", "loadable", "psm", None)


def test_it_is_pure() -> None:
    """It knows no clock, no thread and no driver."""
    assert not {"time", "threading", "socket", "psycopg", "pymysql"} & set(vars(routines))
