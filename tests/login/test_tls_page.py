"""The texts of docs/tls.md are those that a server with that fault causes."""

from __future__ import annotations

import re
import ssl
from contextlib import closing
from pathlib import Path

import psycopg
import pymysql
import pytest

from rdsproxy_lib import TLS, Proxy
from tests.login.authority import Authority
from tests.login.front import Front
from tests.login.mysql import MySQLFront
from tests.login.postgresql import PostgresFront
from tests.servers import APP_PASSWORD, APP_USER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tls.md"
FAULTS = {
    "has a certificate for another name": {"certificate": "wrong-name"},
    "has one that has expired": {"certificate": "expired"},
    "has one that it signed itself": {"certificate": "self-signed"},
    "has one of an authority that is not in `ca_file`, or not in the system's": {},
    "has no TLS": {"certificate": None},
    "has older versions only": {"tls_max": ssl.TLSVersion.TLSv1_1},
    "wants a certificate of the client's": {},
}


def texts() -> dict[str, list[str]]:
    """The cells of the table of errors, by fault: psycopg's, PyMySQL's."""
    part = PAGE.read_text().split("## Errors\n")[1].split("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("| ").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in table[2:]}


def test_each_fault_is_there():
    """The table has a row for each fault that is tried here."""
    assert texts().keys() == FAULTS.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_text_on_postgresql(database, server, authority, fault):
    """libpq's text, and what is wrong with a certificate."""
    with PostgresFront(server, authority=authority) as front:
        error = _error(front, f"postgresql://{APP_USER}@localhost:{front.port}/{database}", authority, fault)
    assert isinstance(error, psycopg.OperationalError)
    assert str(error).startswith('connection failed: connection to server at "')
    _assert_says(error, texts()[fault][0])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_text_on_mysql(mysql_database, mysql_server, authority, fault):
    """PyMySQL's code and text."""
    with MySQLFront(mysql_server, authority=authority) as front:
        error = _error(front, f"mysql://{APP_USER}@localhost:{front.port}/{mysql_database}", authority, fault)
    assert isinstance(error, pymysql.err.OperationalError)
    code, _, text = texts()[fault][1].partition(" ")
    assert error.args[0] == int(code)
    _assert_says(error, text)


def _error(front: Front, url: str, authority: Authority, fault: str) -> BaseException:
    """What the driver says, where the library may have waited for a server that is away."""
    for name, value in FAULTS[fault].items():
        setattr(front, name, value)
    if fault == "wants a certificate of the client's":
        front.client_ca = authority.ca_file
    knows_no_better = fault.startswith("has one of an authority")
    tls = TLS("verify-identity", ca_file=None if knows_no_better else str(authority.ca_file))
    with (
        Proxy(url, password=APP_PASSWORD, tls=tls, connection_borrow_timeout=1) as proxy,
        pytest.raises((psycopg.OperationalError, pymysql.err.OperationalError)) as caught,
        closing(proxy.connect()) as conn,
    ):
        conn.cursor().execute("select 1")
    return caught.value.__cause__ or caught.value


def _assert_says(error: BaseException, cell: str) -> None:
    said = re.findall(r"`([^`]+)`", cell)[0].replace("db.example.com", "localhost")
    for part in filter(None, (part.strip() for part in said.split("…"))):
        assert part in str(error)
