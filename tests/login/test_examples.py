"""The programs in examples/ that log in with AWS run as they stand, on each server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.login.authority import Authority
from tests.login.front import NAME
from tests.login.mysql import MySQLFront
from tests.login.postgresql import PostgresFront
from tests.login.secrets_manager import Service
from tests.servers import APP_PASSWORD, APP_USER

ROOT = Path(__file__).resolve().parents[2]


def test_an_iam_token_logs_in_on_postgresql(database, server, authority, aws):
    """examples/iam.py, through a tunnel: the front takes a token for the name of AWS' alone."""
    with PostgresFront(server, check="iam", authority=authority) as front:
        _run_iam(front, f"postgresql://{APP_USER}@{front.host}:{front.port}/{database}", authority)


def test_an_iam_token_logs_in_on_mysql(mysql_database, mysql_server, authority, aws):
    """The same on MariaDB and MySQL."""
    with MySQLFront(mysql_server, check="iam", authority=authority) as front:
        _run_iam(front, f"mysql://{APP_USER}@{front.host}:{front.port}/{mysql_database}", authority)


def test_a_secret_logs_in_on_postgresql(database, server, authority, service):
    """examples/secrets_manager.py: nothing but the secret says where the server is; one question to the service."""
    with PostgresFront(server, authority=authority) as front:
        _run_secrets_manager(front, "postgres", database, authority, service)


def test_a_secret_logs_in_on_mysql(mysql_database, mysql_server, authority, service):
    """The same on MariaDB and MySQL."""
    with MySQLFront(mysql_server, authority=authority) as front:
        _run_secrets_manager(front, "mysql", mysql_database, authority, service)


def _run_iam(front: PostgresFront | MySQLFront, url: str, authority: Authority) -> None:
    says = _run("iam", DATABASE_URL=url, RDS_HOST=NAME, CA_FILE=str(authority.ca_file))
    assert says == "20 connections, 1 to the database,\n1 of them with TLS\n"
    assert not front.refused
    assert all(login.token.startswith(f"{NAME}:{front.port}/?") for login in front.logins if login.token)


def _run_secrets_manager(
    front: PostgresFront | MySQLFront, engine: str, dbname: str, authority: Authority, service: Service
) -> None:
    place = {"engine": engine, "host": front.host, "port": front.port, "dbname": dbname}
    arn = service.create("examples", username=APP_USER, password=APP_PASSWORD, **place)
    says = _run(
        "secrets_manager",
        SECRET_ID=arn,
        CA_FILE=str(authority.ca_file),
        AWS_ENDPOINT_URL_SECRETS_MANAGER=service.endpoint_url,
    )
    user = APP_USER if engine == "postgres" else f"{APP_USER}@%"
    assert says == f"20 connections as {user}, 1 to the database,\n1 of them with TLS\n"
    assert not front.refused
    assert service.count() == 1


def _run(name: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", f"examples/{name}.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
