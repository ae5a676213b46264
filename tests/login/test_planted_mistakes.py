"""Secrets given where they do not belong, or beside something that is wrong, are not seen either."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from typing import Any

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import ConfigurationError, Proxy, Static
from rdsproxy_lib import psycopg as drop_in_psycopg
from rdsproxy_lib import pymysql as drop_in_pymysql
from rdsproxy_lib.cli import main
from tests.login.eye import Eye
from tests.login.stage import ERRORS, IMPATIENT, plant_aws
from tests.servers import APP_DATABASE, HOST, free_port

BAD_URLS = (
    "{0}",
    "app:{0}@db",
    "{engine}:app:{0}@db/x",
    "{engine}://app:{0}",
    "{engine}://app:{0}/{1}@db/x",
    "{engine}://app:1/{1}@db/x",
    "{engine}://app:{0}?{1}@db/x",
    "{engine}://app:1?{1}@db/x",
    "{engine}://app:{0}@db:x/",
    "{engine}://app:{0}@db:0/?sslpassword={1}",
    "{engine}://app:{0}@db/x?rdsproxy_max_connections={1}",
    "{engine}://app:{0}@db/x?rdsproxy_none=1",
    "{engine}://app:{0}@db/x?rdsproxy_max_connections=0",
    "{engine}://app:{0}@a,,b/x",
    "{engine}://app:{0}@[::1/x",
    "{engine}://app:{0}@a:1,b:x,c/x?password={1}",
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url(stage, url):
    """What is wrong with it is told without the part that may be the password."""
    text = url.format(stage.eye.plant("URL: password"), stage.eye.plant("URL: rest"), engine=stage.engine)
    if "max_connections={1}" in url:  # the value of an option is no secret
        del stage.eye.plants["URL: rest"]
    for call in (Proxy, rdsproxy_lib.connect):
        with stage.eye.fails("bad URL", ConfigurationError, *ERRORS):
            call(text)
    if stage.is_postgresql and "{0}@" in url:  # without it libpq finds a host and a port, which are no secrets
        with stage.eye.fails("bad URL", ConfigurationError, *ERRORS):
            drop_in_psycopg.connect(text, connect_timeout=2, rdsproxy=IMPATIENT)


def test_a_bad_conninfo():
    """libpq repeats the word that it does not understand, which may be half of a password; the drop-in does not."""
    eye = Eye()
    for text in ("host=db password={0} {1}", "postgresql://app:{0}%{1}@db/x", "postgresql://app:{0}%zz@db", "{0}"):
        first, second = eye.plant(f"{text}: password"), eye.plant(f"{text}: rest")
        with eye.fails("conninfo", psycopg.ProgrammingError):
            drop_in_psycopg.connect(text.format(first, second))
    with pytest.raises(psycopg.ProgrammingError, match='invalid connection option "sslmod"'):
        drop_in_psycopg.connect("host=db sslmod=require")
    assert not eye.found, sorted(eye.found)


def test_mistakes(stage, aws):
    """Secrets given where they do not belong, and options that are wrong beside them."""
    plant_aws(stage.eye, aws)
    user, password = stage.user("mistakes: password")
    eye, place = stage.eye, {**stage.address, "user": user}
    drop_in = drop_in_psycopg if stage.is_postgresql else drop_in_pymysql
    keywords = {"host": stage.server.host, "port": stage.server.port, "user": user, stage.dbname: APP_DATABASE}
    own = {"driver_options": {"password": password}}
    passwords = {"password": password, "passwd": password, "sslpassword": password, "ssl_key_password": password}
    nested = {"ssl": {"password": password, "ca": "/nowhere"}}
    pair = (user, password)
    credentials = (pair, [*pair], password, password.encode(), {user: password}, {user: pair})
    calls: list[Callable[[], Any]] = [
        *(lambda given=given: Proxy(**place, credentials=given) for given in credentials),
        *(lambda given=given: drop_in.connect(**keywords, rdsproxy={"credentials": given}) for given in credentials),
        lambda: Proxy(**place, **passwords),
        lambda: Proxy(**place, **nested),
        lambda: Proxy(**place, driver_options=passwords, max_connections=0),
        lambda: Proxy(**place, driver_options={**passwords, **nested, "nonsense": 1}).connect(),
        lambda: Proxy(**place, password=password.encode(), max_connections=0),
        lambda: Proxy(f"{stage.engine}://{user}:{password}@db".encode()),
        lambda: Proxy(**place, credentials=lambda: (user, password.encode())).connect(),
        lambda: Proxy(**place, credentials=lambda: (user, password, 1)).connect(),
        lambda: Proxy(**place, credentials=lambda: {"user": user, "password": password}).connect(),
        lambda: Proxy(**place, credentials=Static(user, password.encode())),
        lambda: Proxy(**place, credentials=Static(password, None)),
        lambda: Proxy(**place, password=password, credentials=Static(user, password)),
        lambda: Proxy(stage.url(user, password), credentials=Static(user, password)),
        lambda: Proxy(**place, credentials=Static(user, password)).connect(password=password),
        lambda: Proxy(**place, password=password).connect(nonsense=1),
        lambda: Proxy(**place).connect(**passwords, nonsense=1),
        lambda: rdsproxy_lib.configure(**own, max_connections=0),
        lambda: rdsproxy_lib.configure(**passwords),
        lambda: rdsproxy_lib.connect(stage.url(user, password), rdsproxy=passwords),
        lambda: rdsproxy_lib.connect(stage.url(user, password), rdsproxy={**own, "max_connections": 0}),
        lambda: drop_in.connect(**keywords, **passwords, rdsproxy={"nonsense": 1}),
        lambda: drop_in.connect(**keywords, rdsproxy={**own, "nonsense": 1}),
        lambda: drop_in.connect(**keywords, password=f"{password}\udce4"),
        lambda: Proxy(**place, credentials=Static(user, f"{password}\udce4")).connect(),
        lambda: Proxy(**place, credentials=lambda: (user, f"{password}\udce4")).connect(),
    ]
    for number, call in enumerate(calls):
        with eye.fails(f"mistake {number}", Exception):
            call()
    with closing(drop_in.connect(**keywords, rdsproxy=own)):
        with eye.fails("contradiction", ConfigurationError):
            drop_in.connect(**keywords, rdsproxy={"driver_options": {"password": password, "charset": "x"}})
        ssl = {"sslpassword": password} if stage.is_postgresql else {"ssl_key_password": password}
        drop_in.connect(**keywords, **ssl, rdsproxy=own).close()
    aws.setenv("RDSPROXY_MAX_CONNECTIONS", "many")
    aws.setenv("PGPASSWORD", password)
    with eye.fails("environment", ConfigurationError):
        drop_in.connect(**{**keywords, "user": "other"})


def test_what_is_not_multiplexed():
    """The drop-in's AsyncConnection is the driver's: its own frames are what tells of it, ours show nothing."""
    eye = Eye()
    password = eye.plant("async: password")

    async def connect(*arguments: Any, **keywords: Any) -> None:
        await drop_in_psycopg.AsyncConnection.connect(*arguments, **keywords)

    with eye.open():
        place = {"host": HOST, "port": free_port(), "user": "app"}
        for arguments, keywords in (((), {**place, "password": password}), ((f"password={password}",), place)):
            with pytest.raises(psycopg.OperationalError) as caught:
                asyncio.run(connect(*arguments, **keywords))
            eye.show_frames("async", caught.tb)
    assert eye.looked["async"] > 2
    assert not eye.found, sorted(eye.found)


COMMANDS = (
    *(["explain", "{0}"], ["explain", "--json", "{0}"], ["explain", "--engine", "{0}", "select 1"], ["demo", "{0}"]),
    *(["{0}"], ["demo", "--engine", "{0}"], ["explain", "--file", "{0}"], ["explain", "{0}", "{0}"]),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_command(command, engine):
    """A URL given to one, also by mistake, is printed without its password."""
    eye = Eye()
    url = f"{engine}://app:{eye.plant('command: password')}@db/shop"
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(out), suppress(SystemExit):
        main([each.format(url) for each in command])
    eye.look("output", out.getvalue())
    assert "app" in out.getvalue()
    assert not eye.found
