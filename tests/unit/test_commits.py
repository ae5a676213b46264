"""What is a COMMIT whose outcome can be told, and the tokens that go with it."""

from __future__ import annotations

import time

import pytest

from rdsproxy_lib.commits import is_commit, new_token
from rdsproxy_lib.engines.mysql_tracking import Tracked
from rdsproxy_lib.sql import Dialect, classify, classify_filled

COMMITS = [
    "COMMIT",
    "commit work;",
    "Commit Transaction",
    "END",
    "end work and no chain",
    "/* why */ COMMIT -- that is why",
]
OTHERS = [
    "",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "COMMIT PREPARED 'x'",
    "PREPARE TRANSACTION 'x'",
    "INSERT INTO t VALUES (1); COMMIT",
    "COMMIT; SELECT 1",
    "SELECT 'COMMIT'",
]


@pytest.mark.parametrize("text", COMMITS)
def test_a_commit(text):
    """However it is spelt."""
    assert is_commit(classify(text))


@pytest.mark.parametrize("text", OTHERS)
def test_no_commit(text):
    """Nor one that does more, or whose outcome is another one's."""
    assert not is_commit(classify(text))


@pytest.mark.parametrize("text", ["COMMIT", "commit work and no chain no release"])
def test_a_commit_of_mysql(text):
    """MySQL has two words more."""
    assert is_commit(classify_filled(text))


@pytest.mark.parametrize("text", ["COMMIT RELEASE", "XA COMMIT 'x'", "CREATE TABLE t (a int)", "BEGIN"])
def test_no_commit_of_mysql(text):
    """COMMIT RELEASE ends the connection; others commit on the way."""
    assert not is_commit(classify_filled(text))


def test_tokens():
    """32 digits each, no two alike, those of later milliseconds behind."""
    tokens = [new_token() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    assert all(len(token) == 32 and int(token, 16) for token in tokens)
    time.sleep(0.002)
    assert new_token() > max(tokens)


@pytest.mark.parametrize(
    ("state", "mark"), [(b"T___W___", b"W"), (b"I_R_W_S_", b"W"), (b"T_R___S_", b"_"), (b"________", b"_")]
)
def test_a_tracker_says_whether_the_transaction_wrote(state, mark):
    """Wherever its record stands in the block."""
    tracked = Tracked(Dialect.MYSQL)
    record = bytes((5, 9, 8)) + state
    for block in (record, b"\x02\x02\x011" + record, record + b"\x02\x02\x011"):
        tracked.begin(Dialect.MYSQL)
        tracked.take_in(block)
        assert tracked.write_mark == mark
