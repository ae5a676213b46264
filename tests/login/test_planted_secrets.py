"""Of secrets planted in every place that can have one, none is ever seen, with the log at DEBUG."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

import pytest

import rdsproxy_lib
from rdsproxy_lib import IamToken, Proxy, SecretsManager, Static
from rdsproxy_lib import psycopg as drop_in_psycopg
from rdsproxy_lib import pymysql as drop_in_pymysql
from rdsproxy_lib.credentials import Who
from tests.cluster.history import run
from tests.login.eye import PACKAGE, Eye
from tests.login.front import KEY_ID, NAME
from tests.login.rotation import Rotation
from tests.login.secrets_manager import listening
from tests.login.stage import ERRORS, IMPATIENT, Stage, plant_aws
from tests.login.tokens import AccessKey
from tests.servers import APP_DATABASE, APP_USER, free_port

# -- passwords


WAYS = (
    *("url", "url-query", "keyword", "driver-options", "connect-keyword", "static", "callable", "mapping"),
    *("drop-in", "drop-in-driver-options", "shared-url", "shared-keywords", "shared-credentials", "configured"),
    *("postgresql-environment", "postgresql-conninfo", "postgresql-uri", "mysql-passwd", "mysql-bytes"),
)

AWAY = ("url", "callable", "drop-in", "environment")


@pytest.mark.parametrize("way", WAYS)
def test_a_password(stage, monkeypatch, way):
    """It lets one in, a wrong one is refused, and in some ways a third meets no server: none of them is shown."""
    engine, _, name = way.partition("-")
    if engine in ("postgresql", "mysql"):
        if engine != stage.engine:
            pytest.skip(f"there is no {name} for {stage.engine}")
        way = name
    user, good = stage.user(f"{way}: password")
    heard: list[Any] = []

    def connect(password: str, port: int | None = None) -> tuple[Any, Proxy | None]:
        proxy, connect = opened(stage, way, user, password, port, monkeypatch)
        if proxy is not None:
            proxy.add_event_handler(heard.append)
        try:
            return connect(), proxy
        finally:
            if proxy is not None:
                stage.look_at(proxy)

    conn, proxy = connect(good)
    with closing(conn):
        stage.work(conn, proxy)
    for event in heard:
        stage.eye.show("event", event)
    if proxy is not None:
        assert heard
        proxy.close()
    stage.end_shared()
    with stage.eye.fails(f"{way}: wrong", *ERRORS):
        connect(stage.eye.plant(f"{way}: wrong password"))
    if way in AWAY:
        stage.end_shared()
        conn, _ = connect(stage.eye.plant(f"{way}: password for nobody"), free_port())
        with stage.eye.fails(f"{way}: away", *ERRORS), closing(conn):
            run(conn, "select 1")


def opened(
    stage: Stage, way: str, user: str, password: str, port: int | None, monkeypatch: Any
) -> tuple[Proxy | None, Callable[[], Any]]:
    """A Proxy that is given a password in some way, or None for the shared one; and what connects."""
    place = {**stage.address, "port": port or stage.server.port}
    bare = {name: value for name, value in place.items() if name not in ("engine", "dbname")}
    drop_in = drop_in_psycopg if stage.is_postgresql else drop_in_pymysql
    keywords = {**bare, "user": user, stage.dbname: APP_DATABASE}
    at = f"{stage.server.host}:{place['port']}/{APP_DATABASE}"
    given = {
        "url": {"url": stage.url(user, password, port)},
        "url-query": {"url": f"{stage.engine}://{at}?user={user}&password={password}"},
        "keyword": {**place, "user": user, "password": password},
        "driver-options": {**place, "user": user, "driver_options": {"password": password}},
        "connect-keyword": {**place, "user": user},
        "static": {**place, "credentials": Static(user, password)},
        "callable": {**place, "user": user, "credentials": lambda: (user, password)},
        "mapping": {**place, "user": user, "credentials": {user: Static(user, password)}},
        "environment": {**place, "user": user},
        "passwd": {**place, "user": user, "driver_options": {"passwd": password}},
        "bytes": {**place, "user": user, "driver_options": {"password": password.encode()}},
    }
    if way in given:
        proxy = Proxy(**{**IMPATIENT, **given[way]})
        if way == "environment":
            monkeypatch.setenv("PGPASSWORD", password)
        more = {"password": password} if way == "connect-keyword" else {}
        return proxy, lambda: proxy.connect(**more)
    if way == "configured":
        rdsproxy_lib.configure(driver_options={"password": password})
    asked: dict[str, Any] = dict(IMPATIENT)
    shared: dict[str, Callable[[], Any]] = {
        "drop-in": lambda: drop_in.connect(**keywords, password=password, rdsproxy=asked),
        "drop-in-driver-options": lambda: drop_in.connect(
            **keywords, rdsproxy={**asked, "driver_options": {"password": password}}
        ),
        "conninfo": lambda: drop_in.connect(
            f"host={stage.server.host} user={user} password={password} dbname={APP_DATABASE}",
            port=place["port"],
            rdsproxy=asked,
        ),
        "uri": lambda: drop_in.connect(stage.url(user, password, port), rdsproxy=asked),
        "shared-url": lambda: rdsproxy_lib.connect(stage.url(user, password, port), rdsproxy=asked),
        "shared-keywords": lambda: rdsproxy_lib.connect(
            engine=stage.engine, **keywords, password=password, rdsproxy=asked
        ),
        "shared-credentials": lambda: rdsproxy_lib.connect(
            engine=stage.engine, **keywords, rdsproxy={**asked, "credentials": {user: Static(user, password)}}
        ),
        "configured": lambda: rdsproxy_lib.connect(engine=stage.engine, **keywords, rdsproxy=asked),
    }
    return None, shared[way]


def test_several_hosts(stage):
    """The hosts of a cluster are asked one by one, and one that is away says why."""
    user, password = stage.user("cluster: password")
    hosts = f"{stage.server.host}:{stage.server.port},{stage.server.host}:{free_port()}"
    url = f"{stage.engine}://{user}:{password}@{hosts}/{APP_DATABASE}"
    with Proxy(url, **IMPATIENT) as proxy, closing(proxy.connect()) as conn:
        stage.work(conn, proxy)
        with stage.eye.fails("no reader", *ERRORS), closing(proxy.endpoint("READ_ONLY").connect()) as reader:
            run(reader, "select 1")
        stage.look_at(proxy)
    wrong = stage.eye.plant("cluster: wrong password")
    with Proxy(url.replace(password, wrong), **IMPATIENT) as proxy:
        with stage.eye.fails("cluster: wrong", *ERRORS):
            proxy.connect()
        stage.look_at(proxy)


def test_who_waits_in_vain(stage):
    """The error of a borrow that took too long."""
    user, password = stage.user("timeout: password")
    with Proxy(stage.url(user, password), max_connections=1, connection_borrow_timeout=0.2) as proxy:
        with closing(proxy.connect()) as one, closing(proxy.connect()) as two:
            run(one, "begin")
            with stage.eye.fails("borrow", rdsproxy_lib.BorrowTimeout):
                run(two, "select 1")
            one.rollback()
        stage.look_at(proxy)


@pytest.mark.parametrize("certificate", ["wrong-name", "expired", "self-signed"])
def test_a_wrong_certificate(stage, aws, certificate):
    """Neither the password nor a token is in what is said of it."""
    user, password = stage.user("certificate: password")
    plant_aws(stage.eye, aws)
    with stage.front(certificate=certificate) as front:
        for credentials in (None, Static(user, password), IamToken(host=NAME)):
            own = password if credentials is None else ""
            with Proxy(stage.url(user, own, front.port), tls=stage.tls, credentials=credentials, **IMPATIENT) as proxy:
                with stage.eye.fails(f"certificate: {certificate}", *ERRORS):
                    proxy.connect()
                stage.look_at(proxy)


# -- AWS


def test_tokens(stage, aws):
    """Good ones, refused ones, and one that cannot be signed."""
    key = plant_aws(stage.eye, aws)
    source = IamToken(host=NAME)
    with stage.front(check="iam") as front:
        front.keys = {KEY_ID: key}
        options = {
            **IMPATIENT,
            **stage.address,
            "host": "localhost",
            "port": front.port,
            "tls": stage.tls,
            "user": APP_USER,
        }
        (offer,) = source.offers(Who(APP_USER, "localhost", front.port), 1.0)
        said = parse_qs(offer.password)
        stage.eye.plant("token: signature", said["X-Amz-Signature"][0])
        assert said["X-Amz-Security-Token"] == [key.session_token]
        with Proxy(**options, credentials=source) as proxy, closing(proxy.connect()) as conn:
            stage.work(conn, proxy)
        assert front.logins[-1].token == offer.password
        for each in (source, vars(source), source._tokens.kept, offer):
            stage.eye.show("object", each)
        front.keys = {KEY_ID: AccessKey("another")}
        with Proxy(**options, credentials=source) as proxy:
            with stage.eye.fails("token: refused", *ERRORS):
                proxy.connect()
            stage.look_at(proxy)
        for token in {login.token for login in front.refused if login.token} - {offer.password}:
            stage.eye.plant("token: signature of the second", parse_qs(token)["X-Amz-Signature"][0])
        aws.setenv("AWS_SESSION_TOKEN", f"{key.session_token}\udce4")  # bytes of the environment that are no UTF-8
        with Proxy(**options, credentials=IamToken(host=NAME)) as proxy, stage.eye.fails("token: unsigned", Exception):
            proxy.connect()


def test_a_secret_in_rotation(stage, service, aws):
    """Every version of it, while it is accepted, while it is refused, and when none is accepted any more."""
    plant_aws(stage.eye, aws)
    user, password = stage.user("secret: password")
    with stage.front() as front:
        place = {"host": "localhost", "port": front.port, "dbname": APP_DATABASE}
        engine = "postgres" if stage.is_postgresql else "mysql"
        with stage.eye.shut():
            arn = service.create("planted/rotated", username=user, password=password, engine=engine, **place)
        source = SecretsManager(arn, endpoint_url=service.endpoint_url)

        def work() -> None:
            with Proxy(credentials=source, tls=stage.tls, **IMPATIENT) as proxy:
                stage.eye.show("object", proxy)
                with closing(proxy.connect()) as conn:
                    stage.work(conn, proxy)

        work()
        steps = Rotation(service, stage.server, arn).steps()
        for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            with stage.eye.shut():
                assert next(steps) == step
                stage.eye.plant("secret: next password", service.read(arn, "AWSPENDING")["password"])
            work()
        assert front.refused, "the old password was never tried in the gap"
        stage.set_password(user, stage.eye.plant("secret: password of the server alone"))
        with stage.eye.fails("secret: refused", *ERRORS):
            work()
        for each in (source, vars(source), source._vault.versions, vars(source._vault)):
            stage.eye.show("object", each)


@pytest.mark.parametrize("kind", ["throttle", "fail", "refuse", "nonsense", "signature"])
def test_a_service_in_trouble(stage, service, aws, kind):
    """It is throttled, broken, away; it answers nonsense, or quotes in its answer how the request was signed."""
    plant_aws(stage.eye, aws)
    user, password = stage.user("trouble: password")
    with stage.eye.shut():
        arn = service.create("planted/trouble", username=user, password=password)
    with liar(kind) as url:
        if url:
            trouble, endpoint = nullcontext(), url
        else:
            trouble, endpoint = service.trouble(kind), service.endpoint_url
        with (
            trouble,
            Proxy(**stage.address, credentials=SecretsManager(arn, endpoint_url=endpoint), **IMPATIENT) as proxy,
        ):
            with stage.eye.fails(f"service: {kind}", *ERRORS), closing(proxy.connect()) as conn:
                run(conn, "select 1")
            stage.look_at(proxy)


@contextmanager
def liar(kind: str) -> Iterator[str]:
    """The URL of a service that gives the headers of the request back; empty where another one is meant."""
    if kind not in ("nonsense", "signature"):
        yield ""
        return

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = f"The Canonical String for this request should have been\n'POST\n/\n\n{self.headers}'"
            error = {"__type": "InvalidSignatureException", "message": f"The signature does not match.\n\n{said}"}
            body = (said if kind == "nonsense" else json.dumps(error)).encode()
            self.send_response(200 if kind == "nonsense" else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """It is of no interest."""

    with listening(Answers) as url:
        yield url


@pytest.mark.parametrize("content", ["text", "list", "number", "mapping", "binary", "nothing"])
def test_a_secret_that_is_none_of_a_database(stage, service, aws, content):
    """What is in it instead is not told."""
    plant_aws(stage.eye, aws)
    planted = stage.eye.plant("content", str(secrets.randbits(80)) if content == "number" else "")
    text = {"list": f'["{planted}"]', "number": f'{{"username": "app", "password": {planted}}}'}.get(content, planted)
    if content == "mapping":
        text = json.dumps({"username": "app", "password": {"value": planted}})
    kept = {"SecretBinary": planted.encode()} if content == "binary" else {"SecretString": text}
    name = f"planted/{stage.engine}/{content}"
    with stage.eye.shut():
        if content != "nothing":
            service.manager.create_secret(Name=name, **kept)
    source = SecretsManager(name, endpoint_url=service.endpoint_url)
    with Proxy(**stage.address, credentials=source, **IMPATIENT) as proxy:
        with stage.eye.fails(f"content: {content}", *ERRORS):
            proxy.connect()
        stage.look_at(proxy)
    with stage.eye.fails(f"content: {content}", *ERRORS), Proxy(credentials=source, **IMPATIENT) as proxy:
        proxy.connect()


def test_a_secret_of_another_user(stage, service):
    """The names of both are told, and nothing else."""
    with stage.eye.shut():
        arn = service.create("planted/other", username="other", password=stage.eye.plant("other's password"))
    source = SecretsManager(arn, endpoint_url=service.endpoint_url)
    proxy = Proxy(**stage.address, user=APP_USER, credentials=source, **IMPATIENT)
    with proxy, stage.eye.fails("another user", *ERRORS):
        proxy.connect()


def test_the_first_call_of_a_process(service, aws):
    """botocore makes its loggers as it goes: those that are new with the first call say nothing either."""
    eye = Eye()
    key, password = plant_aws(eye, aws), eye.plant("secret: password")
    arn = service.create("planted/first", username=APP_USER, password=password)
    program = f"""
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from rdsproxy_lib import IamToken, SecretsManager
from rdsproxy_lib.credentials import Who
for source in (IamToken(), SecretsManager({arn!r}, endpoint_url={service.endpoint_url!r})):
    for offer in source.offers(Who({APP_USER!r}, {NAME!r}, 5432), 20.0):
        print("offered", offer)
        if isinstance(source, IamToken):
            print(offer.password.rpartition("=")[2], file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert ended.stdout.count("offered") == 2, ended
    eye.plant("token: signature", ended.stderr.strip())
    eye.look("output", ended.stdout)
    assert "botocore" not in ended.stdout
    assert not eye.found
    assert len(eye.plants) == 4
    assert key.session_token
