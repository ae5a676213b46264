"""The harness does what it says, seen from raw drivers: fronts, certificates, tokens, rotations."""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import psycopg
import pymysql
import pytest
from botocore.exceptions import ClientError

from tests.login.authority import Authority
from tests.login.front import KEY_ID, NAME, REGION, SECRET_KEY, Front
from tests.login.place import SERVERS
from tests.login.rotation import Rotation, Strategy
from tests.login.secrets_manager import Service
from tests.login.sides import side_of
from tests.login.tokens import AccessKey, fault
from tests.servers import APP_PASSWORD, APP_USER, TcpRelay

PLANTED = "planted-password-1"


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.server(name)) for name in SERVERS])
def side(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Any]:
    """Each server in turn, with its driver."""
    with side_of(request.param, authority) as side:
        yield side


def token(front: Front, **changes: Any) -> str:
    """What boto3 signs for a login through this front, unless something is changed."""
    key = changes.pop("key", (KEY_ID, SECRET_KEY, None))
    wanted = {"DBHostname": NAME, "Port": front.port, "DBUsername": APP_USER, "Region": REGION, **changes}
    client = boto3.Session(*key, region_name=wanted["Region"]).client("rds")
    try:
        return str(client.generate_db_auth_token(**wanted))
    finally:
        client.close()


# Certificates -----------------------------------------------------------------------------------------------


def test_a_good_certificate_is_verified(side: Any) -> None:
    """The driver verifies it against the name dialled, and the newest TLS is spoken."""
    with side.front() as front, side.connect(front, APP_PASSWORD) as connection:
        assert side.ask(connection, "select 1") == 1
    assert [(login.user, login.tls, login.is_accepted) for login in front.logins] == [("app", "TLSv1.3", True)]


def test_what_is_wrong_with_a_certificate_stops_the_driver(side: Any) -> None:
    """Each certificate that is wrong is refused by the client, before it sends anything; and so is a plain channel."""
    with side.front() as front:
        for kind, message in side.certificates:
            front.certificate = kind
            with pytest.raises(side.error, match=message):
                side.connect(front, PLANTED)
    assert not front.logins
    assert APP_USER.encode() not in front.received


def test_a_server_that_only_has_old_tls(side: Any) -> None:
    """TLS 1.2 is spoken where that is all there is, and TLS 1.1 not at all."""
    with side.front(tls_max=ssl.TLSVersion.TLSv1_2) as front:
        side.connect(front, APP_PASSWORD).close()
        front.tls_max = ssl.TLSVersion.TLSv1_1
        with pytest.raises(side.error, match=r"(?i)unsupported protocol|version"):
            side.connect(front, APP_PASSWORD)
    assert [login.tls for login in front.logins] == ["TLSv1.2"]


def test_a_server_that_wants_a_certificate_of_the_client(side: Any, authority: Authority) -> None:
    """Who has none of the CA's is not let in."""
    certificate, key = map(str, authority.certificate("client"))
    names = ("sslcert", "sslkey") if side.is_postgresql else ("ssl_cert", "ssl_key")
    with side.front(client_ca=authority.ca_file) as front:
        with pytest.raises(side.error):
            side.ask(side.connect(front, APP_PASSWORD), "select 1")
        if side.is_postgresql:
            more: dict[str, Any] = dict(zip(names, (certificate, key), strict=True))
            side.connect(front, APP_PASSWORD, **more).close()
        else:
            more = {"ssl_ca": str(authority.ca_file), "ssl_verify_identity": True}
            more.update(zip(names, (certificate, key), strict=True))
            pymysql.connect(host=front.host, port=front.port, user="app", password=APP_PASSWORD, **more).close()
    assert [login.is_accepted for login in front.logins] == [True]


# Logins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["native", "iam"])
def test_a_session_through_a_front_is_like_any(side: Any, check: str) -> None:
    """Statements, transactions, large results both ways, errors."""
    with side.front(check=check) as front:
        password = token(front) if check == "iam" else APP_PASSWORD
        connection = side.connect(front, password)
        try:
            side.ask(connection, "create temporary table t (a int)")
            connection.commit()
            side.ask(connection, "insert into t values (1)")
            connection.rollback()
            assert side.ask(connection, "select count(*) from t") == 0
            assert len(side.ask(connection, side.large)) >= 10_000_000
            assert side.ask(connection, f"select length('{'x' * 3_000_000}')") == 3_000_000
            with pytest.raises((psycopg.Error, pymysql.Error), match="no_such_column"):
                side.ask(connection, "select no_such_column from t")
        finally:
            connection.close()
    (login,) = front.logins
    assert login.is_accepted
    assert login.database == "app"
    assert login.token == (password if check == "iam" else None)


def test_a_wrong_password_is_refused_by_the_server(side: Any) -> None:
    """The words are the server's, and the login is noted as refused."""
    with side.front() as front, pytest.raises(side.error, match=r"password authentication failed|Access denied"):
        side.connect(front, "wrong")
    assert [login.is_accepted for login in front.logins] == [False]


BAD_TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "user": ({"DBUsername": "other"}, "for the user other"),
    "host": ({"DBHostname": f"shop-2.{NAME.partition('.')[2]}"}, "for shop-2"),
    "port": ({"Port": 1}, ":1"),
    "region": ({"Region": "us-east-1"}, "us-east-1"),
    "key": ({"key": (KEY_ID, "another", None)}, "signature"),
    "key id": ({"key": ("AKIDOTHER", SECRET_KEY, None)}, "no key"),
    "session token": ({"key": (KEY_ID, SECRET_KEY, "another")}, "session token"),
}


def test_a_bad_token_is_refused(side: Any) -> None:
    """Whatever is wrong with it, the client gets the server's usual words, and the front notes the reason."""
    with side.front(check="iam") as front:
        for changes, reason in BAD_TOKENS.values():
            with pytest.raises(side.error, match=side.denied):
                side.connect(front, token(front, **changes))
            assert front.logins[-1].code == side.code
            assert reason in front.logins[-1].reason
        good = token(front)
        for bad, reason in (
            (good.replace("X-Amz-Expires=900", "X-Amz-Expires=899"), "signature"),
            (good.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"), "lives for"),
            (good[:-1] + ("0" if good[-1] != "0" else "1"), "signature"),
            ("no-token", "no token"),
        ):
            with pytest.raises(side.error, match=side.denied):
                side.connect(front, bad)
            assert reason in front.logins[-1].reason
        front.lifetime = -1
        with pytest.raises(side.error, match=side.denied):
            side.connect(front, good)
        assert front.logins[-1].reason == "it has expired"
    assert len(front.refused) == len(front.logins) == len(BAD_TOKENS) + 5


def test_a_temporary_key_needs_its_session_token(side: Any) -> None:
    """As of a role, with which a login is accepted while the front knows it."""
    key = ("ASIAROLE", "role-secret", "role-token/+=&")
    with side.front(check="iam") as front:
        front.keys["ASIAROLE"] = AccessKey("role-secret", "role-token/+=&")
        side.connect(front, token(front, key=key)).close()
        with pytest.raises(side.error, match=side.denied):
            side.connect(front, token(front, key=(*key[:2], None)))
        del front.keys["ASIAROLE"]
        with pytest.raises(side.error, match=side.denied):
            side.connect(front, token(front, key=key))


def test_a_front_has_the_names_it_was_told(side: Any) -> None:
    """A token for any of them is good, with the port that AWS has there; the server sees the front's user."""
    names = [f"shop.cluster-{NAME.partition('.')[2]}", f"shop-2.{NAME.partition('.')[2]}"]
    side.add_user("upstream", "upstream-password")
    try:
        with side.front(check="iam", names=names, aws_port=5432, host="127.0.0.2") as front:
            front.upstream_user, front.upstream_password = "upstream", "upstream-password"
            for name in names:
                with side.connect(front, token(front, DBHostname=name, Port=5432)) as connection:
                    assert side.ask(connection, side.who) == "upstream"
            with pytest.raises(side.error, match=side.denied):
                side.connect(front, token(front, Port=5432))
            with pytest.raises(side.error, match=side.denied):
                side.connect(front, token(front, DBHostname=names[0]))
            front.upstream_password = "wrong"
            with pytest.raises(side.error, match=r"password authentication failed|Access denied"):
                side.connect(front, token(front, DBHostname=names[0], Port=5432))
    finally:
        side.drop_user("upstream")


def test_a_token_is_not_asked_for_without_tls(side: Any) -> None:
    """The refusal comes first."""
    with side.front(check="iam") as front:
        for certificate in ("good", None):
            front.certificate = certificate
            with pytest.raises(side.error, match=side.plaintext):
                side.connect(front, "secret-token", tls=False)
    assert b"secret-token" not in front.received
    assert [login.tls for login in front.refused] == [None, None]


def test_a_token_has_its_time() -> None:
    """Good from the second it was signed until it expires, or the front's lifetime is over."""
    client = boto3.Session(KEY_ID, SECRET_KEY, region_name=REGION).client("rds")
    before = int(time.time())
    signed = client.generate_db_auth_token("db", 5432, "app")
    client.close()
    wanted: dict[str, Any] = {"user": "app", "endpoints": ["db:5432"], "region": REGION}
    wanted["keys"] = {KEY_ID: AccessKey(SECRET_KEY)}

    def reason(after: float, lifetime: float = 900) -> str:
        return fault(signed, **wanted, lifetime=lifetime, now=before + after)

    assert [reason(after) for after in (2, 899)] == ["", ""]
    assert [reason(after) for after in (-2, 902)] == ["it is from the future", "it has expired"]
    assert [reason(5, lifetime=4), reason(3, lifetime=4)] == ["it has expired", ""]


# Life of a front --------------------------------------------------------------------------------------------


def test_many_clients_at_the_same_time_and_a_server_that_changes(side: Any) -> None:
    """Thirty sessions run at once; later ones go where the front was pointed to; the end of it ends all."""
    open_ones: list[Any] = []

    def work() -> None:
        connection = side.connect(front, APP_PASSWORD)
        open_ones.append(connection)
        for number in range(20):
            assert side.ask(connection, f"select {number}") == number

    with side.front() as front, TcpRelay(side.server.host, side.server.port) as relay:
        threads = [threading.Thread(target=work) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(open_ones) == len(front.logins) == 30
        front.server = relay
        with side.connect(front, APP_PASSWORD) as connection:
            assert side.ask(connection, "select 1") == 1
        assert relay.traffic().connections == 1
        front.stop()
        with pytest.raises((psycopg.OperationalError, pymysql.Error)):
            side.ask(open_ones[0], "select 1")
        front.start()
        side.connect(front, APP_PASSWORD).close()
    for each in open_ones:
        each.close()


def test_clients_and_servers_that_break_off(side: Any) -> None:
    """A client that vanishes takes its session with it, and a server that does is noticed by the client."""
    with TcpRelay(side.server.host, side.server.port) as behind:
        front = side.front()
        front.server = behind
        with front, TcpRelay(front.host, front.port) as before:
            first = side.connect(before, APP_PASSWORD, **({"sslmode": "require"} if side.is_postgresql else {}))
            before.reset_all()
            deadline = time.monotonic() + 5
            while behind.open_connections():
                assert time.monotonic() < deadline, "the session outlives its client"
            second = side.connect(front, APP_PASSWORD)
            behind.reset_all()
            with pytest.raises(side.error):
                side.ask(second, "select 1")
            behind.stop()
            with pytest.raises(side.error):
                side.connect(front, APP_PASSWORD)
    for each in (first, second):
        each.close()


def test_a_statement_is_cancelled_through_a_front(side: Any) -> None:
    """The number of the session is the server's own, and PostgreSQL's request to cancel is passed on."""
    with side.front() as front, side.connect(front, APP_PASSWORD) as connection:
        if not side.is_postgresql:
            assert side.ask(connection, "select connection_id()") == connection.thread_id()
            return
        assert side.ask(connection, "select pg_backend_pid()") == connection.info.backend_pid
        # Not cancel(): it waits in libpq with the lock of the interpreter, which the front needs.
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(10)")
        timer.join()


# Hostile servers --------------------------------------------------------------------------------------------


def test_a_hostile_server_learns_what_a_raw_driver_gives_away(side: Any) -> None:
    """Without TLS raw drivers tell their password, in clear or for a key that anybody may have made."""
    for check in side.hostile:
        with side.front(check=check, certificate=None) as front, pytest.raises(side.error):
            side.connect(front, PLANTED, tls=False)
        assert front.learned == [PLANTED.encode()], check
        assert (PLANTED.encode() in front.received) == (check in ("password", "clear", "dialog"))
        assert len(front.refused) == 1
    with side.front(check=side.hostile_hash, certificate=None) as front, pytest.raises(side.hash_error):
        side.connect(front, PLANTED, tls=False)
    assert len(front.answers) == side.is_postgresql
    assert not front.learned


def test_a_hostile_server_with_tls_learns_nothing_from_who_verifies(side: Any) -> None:
    """The certificate is looked at before anything is said."""
    for check in (*side.hostile, side.hostile_hash):
        with side.front(check=check, certificate="self-signed") as front, pytest.raises(side.error):
            side.connect(front, PLANTED)
        assert not front.answers
        assert PLANTED.encode() not in front.received


# Rotations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["single-user", "alternating-users"])
def test_a_rotation_changes_what_the_server_accepts(side: Any, service: Service, strategy: Strategy) -> None:
    """Step by step, as AWS has it; and after two rotations the first user is back, with another password."""
    secret, user, first = f"{strategy}-{secrets.token_hex(4)}", "shop", "first-password"
    side.add_user(user, first)

    def is_accepted(version: dict[str, Any]) -> bool:
        try:
            side.connect(front, version["password"], user=version["username"]).close()
        except side.error:
            return False
        return True

    try:
        arn = service.create(secret, username=user, password=first, engine="any")
        rotation = Rotation(service, side.server, arn, strategy=strategy)
        with side.front() as front:
            old = service.read(arn)
            steps = rotation.steps()
            assert next(steps) == "createSecret"
            new = service.read(arn, "AWSPENDING")
            assert (is_accepted(old), is_accepted(new)) == (True, False)
            assert next(steps) == "setSecret"
            assert (is_accepted(old), is_accepted(new)) == (strategy == "alternating-users", True)
            assert next(steps) == "testSecret"
            assert service.read(arn) == old
            assert next(steps) == "finishSecret"
            assert (service.read(arn), service.read(arn, "AWSPREVIOUS")) == (new, old)
            assert new["engine"] == "any"
            assert new["username"] == ("shop" if strategy == "single-user" else "shop_clone")
            rotation.keeps_pending = False
            rotation.rotate()
            last = service.read(arn)
            assert last["username"] == "shop"
            assert last["password"] not in (first, new["password"])
            assert (is_accepted(last), is_accepted(old)) == (True, False)
            with pytest.raises(ClientError):
                service.read(arn, "AWSPENDING")
            assert rotation.done == 2
    finally:
        side.drop_user("shop_clone")
        side.drop_user("shop")
