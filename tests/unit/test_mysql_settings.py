"""How settings of MySQL are asked for, learnt, and made again, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE, FLAG

from rdsproxy_lib.engines.mysql_settings import (
    LONGEST,
    Answer,
    answers,
    asked,
    assignments,
    dialect_of,
    forgets,
    is_staying,
    learnt,
    literal,
    question,
    role_order,
    text_of,
)
from rdsproxy_lib.settings import Immovable, settings_of
from rdsproxy_lib.sql import Dialect

GIVEN = {
    "schema": "_utf8mb4'app'",
    "sql_mode": "_utf8mb4'STRICT_TRANS_TABLES'",
    "character_set_client": "_utf8mb4'utf8mb4'",
    "role": "NULL",
}


@dataclass
class Column:
    """What the driver says of a column."""

    type_code: int = FIELD_TYPE.VAR_STRING
    flags: int = 0
    length: int = 100


NUMBER = Column(FIELD_TYPE.LONGLONG)
UNSIGNED = Column(FIELD_TYPE.LONGLONG, FLAG.UNSIGNED)
STRING = Column()


def answer(name: str, *values: bytes | None, column: Column = STRING) -> Answer:
    (found,) = answers([name], [column] * len(values), values)
    return found


def user_variable(column: Column, charset: bytes, collation: bytes, value: bytes | None, length: int = 0) -> str | None:
    size = None if value is None and not length else str(length or len(value or b"")).encode()
    return answer("@a", None, charset, collation, size, value, column=column).value


@given(st.one_of(st.binary(), st.text().map(str.encode), st.from_regex(rb"[ -~]*", fullmatch=True)))
def test_literals_are_ascii_and_come_back(text):
    """Any bytes become SQL that is ASCII, cannot be left by a quote or a backslash, and says its character set."""
    value = literal(text)
    assert value.isascii()
    assert "\\" not in value
    assert value.count("'") == 2
    assert value.startswith("_utf8mb4")
    assert text_of(value) == text


def test_an_empty_literal_is_no_empty_string_constant():
    """EMPTY_STRING_IS_NULL of MariaDB makes NULL of those, whatever stands before them."""
    assert literal(b"") == "_utf8mb4 X''"


def test_null_is_null():
    """There and back."""
    assert literal(None) == "NULL"
    assert text_of("NULL") is None
    assert text_of("5") is None


def test_the_mode_says_how_texts_are_read():
    """By its words, for the server that it was asked of."""
    mode = literal(b"ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
    assert dialect_of(mode, "mysql") is Dialect.mysql("ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "mysql")
    assert dialect_of(literal(b""), "mariadb") is Dialect.mysql("", "mariadb")


def test_what_is_asked_for():
    """What says more instead of what follows from it; nothing that follows the database; autocommit never."""
    names = {
        "character_set_connection",
        "collation_database",
        "character_set_database",
        "autocommit",
        "time_zone",
        "@a",
    }
    assert asked(names) == ["@a", "collation_connection", "time_zone"]


def test_a_question_is_not_cut():
    """The session's sql_select_limit may be 0; long values of user variables stay where they are."""
    text = question(["@a", "role", "schema", "time_zone", "wait_timeout"], {"time_zone"})
    assert text.endswith(" LIMIT 18446744073709551615")
    assert text.count("@@global") == 1
    assert f"> {LONGEST}" in text
    assert text.isascii()


@pytest.mark.parametrize(
    ("values", "column", "expected"),
    [
        ((b"SYSTEM", b"SYSTEM", None), STRING, "_utf8mb4'SYSTEM'"),
        ((b"\xe4", b"\xc3\xa4", None), STRING, "_utf8mb4 X'c3a4'"),
        ((None, None, None), STRING, "NULL"),
        ((None, None, None), NUMBER, "NULL"),
        ((b"28800", b"28800", None), NUMBER, "28800"),
        ((b"0", b"OFF", None), NUMBER, "0"),
        ((b"\x005\x005", b"55", None), NUMBER, "55"),
        ((b"0.250000", b"0.250000", None), Column(FIELD_TYPE.DOUBLE), "0.250000"),
    ],
)
def test_values_of_system_variables(values, column, expected):
    """Numbers as they are, in whatever character set they came; all else as text."""
    assert answer("x", *values, column=column).value == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((NUMBER, b"binary", b"binary", b"-5"), "-5"),
        ((UNSIGNED, b"binary", b"binary", b"5"), "CAST(5 AS UNSIGNED)"),
        ((STRING, b"latin1", b"latin1_bin", b"\xe4'"), "_latin1 X'e427' COLLATE latin1_bin"),
        ((STRING, b"utf8mb4", b"utf8mb4_bin", b""), "_utf8mb4 X'' COLLATE utf8mb4_bin"),
        ((NUMBER, b"binary", b"binary", None), "CAST(NULL AS SIGNED)"),
        ((UNSIGNED, b"binary", b"binary", None), "CAST(NULL AS UNSIGNED)"),
        ((Column(FIELD_TYPE.DOUBLE), b"binary", b"binary", None), "CAST(NULL AS DOUBLE)"),
        ((Column(FIELD_TYPE.NEWDECIMAL), b"binary", b"binary", None), "CAST(NULL AS DECIMAL)"),
        ((STRING, b"latin1", b"latin1_bin", None), "IF(0, _latin1 X'' COLLATE latin1_bin, NULL)"),
        ((Column(FIELD_TYPE.MEDIUM_BLOB), b"binary", b"binary", None), "NULL"),
        ((STRING, b"binary", b"binary", None), None),
        ((Column(FIELD_TYPE.LONG_BLOB, length=16777216), b"binary", b"binary", None), None),
    ],
)
def test_values_of_user_variables(found, expected):
    """With their type, sign, character set and collation, also where they are NULL; None where they were never set."""
    assert user_variable(*found) == expected


@pytest.mark.parametrize(
    "found",
    [
        (STRING, b"binary", b"binary", b"abc"),
        (Column(FIELD_TYPE.DOUBLE), b"binary", b"binary", b"1.5"),
        (Column(FIELD_TYPE.NEWDECIMAL), b"binary", b"binary", b"1.5"),
        (STRING, b"utf8mb4", b"utf8mb4_bin", None, LONGEST + 1),
    ],
)
def test_values_that_stay(found):
    """Bytes, numbers with a fraction and long strings cannot be taken along for certain."""
    with pytest.raises(Immovable, match="@a") as caught:
        user_variable(*found)
    assert caught.value.reason == "USER_VARIABLE"


def test_what_each_session_has_is_not_learnt():
    """What is as at login needs no setting; what is set stays said, though it is the server's default."""
    found = [
        answer("schema", b"app"),
        answer("sql_mode", b"STRICT_TRANS_TABLES", b"STRICT_TRANS_TABLES", None),
        answer("wait_timeout", b"28800", b"28800", None, column=NUMBER),
    ]
    before = {"schema": "_utf8mb4'other'", "@a": "5"}
    assert learnt(found, before, GIVEN) == {"wait_timeout": "28800", "@a": "5"}


def test_what_nobody_has_set_is_not_learnt():
    """A variable that was only reported, and has the server's value, was not changed; one that was set may be."""
    same = answer("wait_timeout", b"28800", b"28800", b"1", column=NUMBER)
    assert learnt([same], {}, GIVEN) == {}
    assert learnt([same], {"wait_timeout": "7"}, GIVEN) == {"wait_timeout": "28800"}


def test_a_database_that_is_gone_stays_gone():
    """A session whose database was dropped has none, which no other backend could be given."""
    with pytest.raises(Immovable, match="dropped"):
        learnt([answer("schema", None)], {}, GIVEN)
    assert learnt([answer("schema", None)], {}, {"schema": "NULL"}) == {}


@pytest.mark.parametrize("name", ["schema", "role"])
def test_names_that_could_be_read_in_two_ways(name):
    """A name with other letters would have to be sent in the character set of the moment."""
    with pytest.raises(Immovable, match="ASCII"):
        learnt([answer(name, "ä".encode())], {}, GIVEN)


@pytest.mark.parametrize(
    ("names", "before", "is_movable"),
    [
        (["role", "time_zone"], {}, True),
        (["role", "long_query_time"], {}, False),
        (["long_query_time"], {"role": "_utf8mb4'r'"}, False),
        (["long_query_time"], {}, True),
        (["@a", "role"], {}, True),
    ],
)
def test_what_a_role_may_set_stays(names, before, is_movable):
    """In the time of another role only what anybody may set can be set again on another backend."""
    found = []
    for name in names:
        if name == "role":
            found.append(answer(name, b"r"))
        elif name == "@a":
            found.append(answer(name, None, b"binary", b"binary", b"1", b"5", column=NUMBER))
        else:
            found.append(answer(name, b"5", b"5", None, column=NUMBER))
    if is_movable:
        assert learnt(found, before, GIVEN).keys() == {*names, *before}
    else:
        with pytest.raises(Immovable, match="role"):
            learnt(found, before, GIVEN)


@pytest.mark.parametrize(
    ("before", "role", "schema", "is_movable"),
    [
        ({}, b"r", b"other", True),  # it is set first
        ({}, None, b"other", False),
        ({"role": "_utf8mb4'r'", "schema": "_utf8mb4'other'"}, None, b"other", False),
        ({"role": "_utf8mb4'r'", "schema": "_utf8mb4'other'"}, b"s", b"other", False),
        ({"role": "_utf8mb4'r'", "schema": "_utf8mb4'other'"}, b"r", b"other", True),
        ({"role": "_utf8mb4'r'", "schema": "_utf8mb4'other'"}, None, b"app", True),
        ({"schema": "_utf8mb4'other'"}, b"r", b"other", True),
    ],
)
def test_a_database_that_a_role_may_use_stays(before, role, schema, is_movable):
    """One that was chosen in the time of a role which is over may be out of reach on another backend."""
    found = [answer("role", role), answer("schema", schema)]
    if is_movable:
        learnt(found, before, GIVEN)
    else:
        with pytest.raises(Immovable, match="database in use"):
            learnt(found, before, GIVEN)


values = st.dictionaries(
    st.sampled_from(["@a", "@b", "time_zone", "sql_mode", "foreign_key_checks", "wait_timeout", "schema", "role"]),
    st.sampled_from(["1", "2", "NULL", "_utf8mb4'x'"]),
)
modes = st.sampled_from([0, 2])


@given(values, modes, values, modes)
def test_assignments_lead_from_one_to_the_other(have, have_mode, want, want_mode):
    """Played through, they make the one of the other, where no user variable has to be forgotten."""
    ours, theirs = settings_of(have, have_mode), settings_of(want, want_mode)
    text = assignments(ours, theirs, GIVEN)
    now: dict[str, Any] = {name: value for name, value in have.items() if name not in ("schema", "role")}
    autocommit = have_mode
    if text:
        for assignment in text.removeprefix("SET ").split(", "):
            target, _, value = assignment.partition(" = ")
            name = target.replace("`", "").removeprefix("@@session.")
            if name == "autocommit":
                autocommit = 2 * int(value)
            elif value == "DEFAULT" or value.startswith("@@global.") or (name in GIVEN and name not in want):
                del now[name]
            else:
                now[name] = value
    assert autocommit == want_mode
    wanted = {name: value for name, value in want.items() if name not in ("schema", "role")}
    forgotten = {name for name in now.keys() - wanted.keys() if name.startswith("@")}
    assert bool(forgotten) <= forgets(ours, theirs)
    assert {name: value for name, value in now.items() if name not in forgotten} == wanted


def test_what_has_no_default():
    """For what DEFAULT would make the opposite of what it is, the server's value is asked for."""
    have = settings_of({"foreign_key_checks": "0", "wait_timeout": "5"})
    text = assignments(have, settings_of({}), GIVEN)
    assert text == (
        "SET @@session.`foreign_key_checks` = @@global.`foreign_key_checks`, @@session.`wait_timeout` = DEFAULT"
    )


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        ({"@a": "1"}, {}, True),
        ({"@a": "1"}, {"@a": "2"}, False),
        ({"@a": "1"}, {"@a": "NULL"}, True),
        ({}, {"@a": "NULL"}, False),
        ({"wait_timeout": "1"}, {}, False),
    ],
)
def test_what_only_a_reset_can_do(have, want, expected):
    """A user variable that was never set is another thing than one that was set to NULL."""
    assert forgets(settings_of(have), settings_of(want)) == expected


@pytest.mark.parametrize(
    ("role", "server", "expected"),
    [
        ("NULL", "mariadb", "SET ROLE NONE"),
        ("_utf8mb4'NONE'", "mysql", "SET ROLE NONE"),
        ("_utf8mb4'helper'", "mariadb", "SET ROLE `helper`"),
        (literal(b"odd`name"), "mariadb", "SET ROLE `odd``name`"),
        (literal(b"`a`@`%`,`b`@`%`"), "mysql", "SET ROLE `a`@`%`,`b`@`%`"),
    ],
)
def test_roles(role, server, expected):
    """As CURRENT_ROLE() of each server has them."""
    assert role_order(role, server) == expected


@pytest.mark.parametrize("name", ["timestamp", "pseudo_thread_id", "gtid_next", "session_track_schema", "debug_sync"])
def test_what_means_something_only_where_it_was_set(name):
    """Such variables are not taken along."""
    assert is_staying(name)
    assert not is_staying(f"my_{name}")
