"""Transactions, on private and on multiplexed connections."""

from __future__ import annotations

import pymysql
import pytest

def test_autocommit_off_is_the_default(connect, rows, names, rival):
    """What is written becomes visible to others at commit and not before."""
    conn = connect()
    assert conn.get_autocommit() is False
    for number in range(3):
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        assert len(names()) == number
        conn.commit()
        rival(conn)
    assert names() == ["a", "a", "a"]
