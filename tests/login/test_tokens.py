"""IAM tokens: signed here, once for a host, a user and a time; and none that is over is noticed."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from contextlib import ExitStack
from typing import Any

import boto3
import pytest

import rdsproxy_lib
from rdsproxy_lib import ConfigurationError, CredentialsError, IamToken, aws, iam
from rdsproxy_lib.credentials import TryLater, Who
from tests.cluster.aws import Names, instance
from tests.cluster.nodes import until
from tests.login.front import KEY_ID, NAME, REGION, SECRET_KEY, AccessKey
from tests.login.load import CLUSTERS, Load, check, opened
from tests.login.place import KINDS, Place, front_of
from tests.servers import APP_USER

ENGINES = [pytest.param(name, marks=pytest.mark.server(name)) for name in KINDS]
PERIOD = 1.0
"""Seconds for which a token is used here."""
PERIODS = 5


@pytest.fixture
def names(monkeypatch):
    """The resolver: no name leads anywhere yet."""
    return Names(monkeypatch)


@pytest.fixture
def short_lived(monkeypatch):
    """Tokens are replaced after PERIOD."""
    monkeypatch.setattr(iam, "MARGIN", iam.LIFETIME - PERIOD)
    monkeypatch.setattr(iam, "JITTER", 0.0)


@pytest.fixture
def signatures(monkeypatch):
    """What was signed: the URL and the query of each."""
    signed: list[Any] = []
    real = aws.presigned

    def sign(frozen: Any, service: str, region: str, url: str, query: Any, seconds: int) -> Any:
        signed.append((url, query["DBUser"]))
        return real(frozen, service, region, url, query, seconds)

    monkeypatch.setattr(aws, "presigned", sign)
    return signed


def instance_of(server: Any, authority: Any, number: int = 1) -> Any:
    """A front that asks for tokens of this instance."""
    return front_of(server, check="iam", authority=authority, names=[instance(number)], host=f"127.0.0.{number + 1}")


def with_names(fronts: list[Any], names: Names) -> list[Any]:
    """The fronts, under the names of their instances."""
    for number, front in enumerate(fronts, 1):
        names.table[instance(number)] = [front.host]
        front.host = instance(number)
    return fronts


def who(user: str = APP_USER, host: str = NAME, port: int = 5432) -> Who:
    return Who(user, host, port)


def token(source: IamToken, at: Who | None = None) -> str:
    """What is sent first."""
    offers = source.offers(at or who(), 1.0)
    try:
        return str(next(offers).password)
    finally:
        offers.close()


def test_a_token_is_what_boto3_makes(aws):
    """Byte for byte, for the same second; and without a client of RDS, which takes its time to make."""
    aws.setenv("AWS_SESSION_TOKEN", "of a role")
    client = boto3.client("rds")
    for _ in range(3):  # the second may change between the two
        ours = token(IamToken())
        theirs = client.generate_db_auth_token(NAME, 5432, APP_USER, Region=REGION)
        if ours == theirs:
            break
    assert ours == theirs
    client.close()


def test_a_thousand_threads_make_one_token(aws, signatures):
    """However they come."""
    source = IamToken()
    found: list[str] = []
    gate = threading.Barrier(1000)

    def ask() -> None:
        gate.wait()
        found.append(token(source))

    threads = [threading.Thread(target=ask) for _ in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1000
    assert len(set(found)) == 1
    assert signatures == [(f"https://{NAME}:5432/", APP_USER)]


def test_each_host_port_and_user_has_its_own(aws, signatures):
    """And the name is signed in lower case, as the server knows it."""
    source = IamToken()
    different = [who(), who(port=5433), who(user="Job"), who(host=NAME.replace("shop-1", "shop-2"))]
    assert len({token(source, each) for each in different}) == 4
    assert token(source, who(host=NAME.upper())) == token(source)
    assert len(signatures) == 4


def test_a_token_is_not_used_longer_than_the_role_that_signed_it(aws, service):
    """A role's credentials end, and what they signed with them; boto3 renews them ten minutes before."""
    of_a_role = IamToken(session=service.role_session("arn:aws:iam::123456789012:role/shop"))
    assert "X-Amz-Security-Token=" in token(of_a_role)
    of_a_user = IamToken()
    token(of_a_user)
    spans = []
    for source in (of_a_role, of_a_user):
        (kept,) = source._tokens.kept.values()
        spans.append(kept.until - kept.signed_at)
    assert 240 <= spans[0] <= 300
    assert 720 <= spans[1] <= 780


def test_credentials_that_cannot_be_renewed_leave_a_token_in_use(aws, monkeypatch):
    """To the end of its fifteen minutes: it was signed before."""
    monkeypatch.setattr(iam, "MARGIN", iam.LIFETIME)
    source = IamToken()
    first = token(source)

    def fail() -> Any:
        raise OSError("the metadata service is away")

    monkeypatch.setattr(source._tokens.identity._credentials, "get_frozen_credentials", fail)
    assert token(source) == first
    with pytest.raises(TryLater, match="could not be renewed: OSError: the metadata service is away"):
        token(source, who(user="another"))


def test_without_aws_credentials_it_is_said(aws):
    """Not by a refusal of the server."""
    source = IamToken()
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match="missing: AWS_SECRET_ACCESS_KEY"):
        token(source)
    aws.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(CredentialsError, match="no AWS credentials were found"):
        token(source)
    with pytest.raises(CredentialsError, match="profile"):
        token(IamToken(profile="nobody"))
    aws.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert token(source), "they are looked for anew"


def test_copies_are_one_source(aws, signatures):
    """As in settings that a framework copies: they share their tokens. A pickled one signs its own."""
    source = IamToken()
    copies = [source, copy.copy(source), copy.deepcopy({"credentials": source})["credentials"]]
    assert len({token(each) for each in copies}) == 1
    assert len(signatures) == 1
    other = pickle.loads(pickle.dumps(source))
    assert other == source
    assert b"X-Amz-Signature" not in pickle.dumps(source)
    token(other)
    assert len(signatures) == 2


@pytest.mark.parametrize(
    "host", ["db.example.com", "10.0.0.5", "localhost", "shop.global-c1a2b3.global.rds.amazonaws.com"]
)
def test_a_name_that_aws_did_not_give_needs_the_one_it_gave(host):
    """A CNAME, an address, a tunnel, a global database: said when the Proxy is made."""
    with pytest.raises(ConfigurationError, match=r"IamToken\(host=…\)"):
        rdsproxy_lib.Proxy(f"postgresql://app@{host}/shop", credentials=IamToken())
    rdsproxy_lib.Proxy(f"postgresql://app@{host}/shop", credentials=IamToken(host=NAME))
    with pytest.raises(ConfigurationError, match=r"IamToken\(host=…\)"):
        IamToken(host=host)


def test_a_tunnel_is_signed_for_its_other_end(aws, signatures):
    """One name for all that are not AWS', with the port there; or a mapping."""
    token(IamToken(host=f"{NAME}:5432"), who(host="127.0.0.1", port=15432))
    other = instance(2)
    mapped = IamToken(host={"one.example": NAME, "two.example": other})
    token(mapped, who(host="two.example", port=3306))
    token(IamToken(host=NAME), who(host=other))  # the host of a cluster has a name of its own
    assert [url for url, _ in signatures] == [
        f"https://{NAME}:5432/",
        f"https://{other}:3306/",
        f"https://{other}:5432/",
    ]
    with pytest.raises(ConfigurationError, match=r"three\.example"):
        mapped.check(["three.example"])


def test_the_same_arguments_are_the_same_source():
    """So that connect() with one of its own each time shares a Proxy."""
    assert IamToken(host={"a": NAME}) == IamToken(host={"a": NAME})
    assert hash(IamToken()) == hash(IamToken())
    assert IamToken() != IamToken(region="eu-west-2")


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_user_there_is_nothing_to_sign(engine, aws, authority, monkeypatch):
    """The token names the database user."""
    monkeypatch.delenv("PGUSER", raising=False)
    with Place(engine) as place, instance_of(place.server, authority) as front:
        source = IamToken(host=NAME)
        with (
            opened([front], authority, source) as proxy,
            pytest.raises(CredentialsError, match="names a database user"),
        ):
            proxy.connect()
        assert front.logins == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_tokens_end_under_load(engine, aws, authority, names, short_lived, signatures, record_property):
    """The server takes each for a moment longer than it is used: no login is refused, and each period has one token."""
    with Place(engine) as place, instance_of(place.server, authority) as front:
        (front,) = with_names([front], names)
        front.lifetime = PERIOD + 1.5  # a token's time is told in seconds
        with opened([front], authority, IamToken(), user=APP_USER) as proxy:
            began = time.monotonic()
            with Load(proxy) as load:
                time.sleep(PERIODS * PERIOD)
            check(load)
            periods = (time.monotonic() - began) / PERIOD
        assert front.refused == []
        assert len(front.logins) > 4 * PERIODS
        assert len({login.token for login in front.logins}) == len(signatures)
        assert PERIODS <= len(signatures) <= periods + 1
    record_property(
        "seed",
        f"tokens: {engine}: {periods:.1f} periods, {len(front.logins)} logins, {len(signatures)} signatures,"
        f" {load.turns} sessions",
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_token_that_is_refused_is_replaced_once(engine, aws, authority, names, signatures):
    """By clocks that differ, or because the key was changed: a login finds out, and all go on with the next token."""
    with Place(engine) as place, instance_of(place.server, authority) as front:
        (front,) = with_names([front], names)
        taken_back: set[str | None] = set()
        judge = front.fault
        front.fault = lambda token, user: "it was taken back" if token in taken_back else judge(token, user)
        with opened([front], authority, IamToken(), user=APP_USER) as proxy:
            with Load(proxy) as load:
                for number in range(3):
                    time.sleep(1.1)  # a token's time is told in seconds: the next one is another
                    signed, refused = len(signatures), len(front.refused)
                    taken_back.update(login.token for login in front.logins)
                    enough = len(front.logins) + 5
                    until(lambda enough=enough: len(front.logins) > enough, "they log in again")
                    load.go_on()
                    assert len(signatures) == signed + 1, f"the {number}. time"
                    assert 1 <= len(front.refused) - refused <= 3, "no more than are logged in at once"
            check(load)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [each for each in ENGINES if each.values[0] in CLUSTERS])
def test_a_switchover_needs_tokens_of_the_other_host(engine, aws, authority, names, short_lived):
    """Each host takes its own tokens only, and no session notices."""
    with CLUSTERS[engine]() as cluster, ExitStack() as stack:
        fronts = [
            stack.enter_context(instance_of(node.server, authority, number))
            for number, node in enumerate(cluster.nodes, 1)
        ]
        with opened(with_names(fronts, names), authority, IamToken(), user=APP_USER) as proxy:
            with Load(proxy) as load:
                load.go_on()
                cluster.nodes[0].refuse_writes()
                cluster.nodes[1].promote()
                before = len(fronts[1].logins)
                load.go_on()
                time.sleep(2 * PERIOD)
                load.go_on()
            check(load)
        assert all(front.refused == [] for front in fronts)
        assert len(fronts[1].logins) > before, "the new writer does the work"


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_access_key_that_is_replaced_is_not_noticed(place, aws, authority, names, monkeypatch, is_kept):
    """The login that finds the old one refused goes on with the new one, be its token a kept one or made just now."""
    if not is_kept:
        monkeypatch.setattr(iam, "MARGIN", iam.LIFETIME)
    source = IamToken()
    with instance_of(place.server, authority) as front:
        (front,) = with_names([front], names)
        for number in range(3):
            key_id, secret = f"AKID{number}", f"secret-{number}"
            aws.setenv("AWS_ACCESS_KEY_ID", key_id)
            aws.setenv("AWS_SECRET_ACCESS_KEY", secret)
            front.keys = {key_id: AccessKey(secret)}
            with opened([front], authority, source, user=APP_USER) as proxy, proxy.connect():
                pass
            assert len(front.refused) == number, "one for each replacement"


def test_a_session_that_was_given_keeps_its_access_key(place, aws, authority, names):
    """Nobody renews it: once it is taken back, the server's refusal is raised."""
    source = IamToken(session=boto3.Session(KEY_ID, SECRET_KEY))
    with instance_of(place.server, authority) as front:
        (front,) = with_names([front], names)
        with opened([front], authority, source, user=APP_USER) as proxy, proxy.connect():
            pass
        front.keys = {"AKIDOTHER": AccessKey(SECRET_KEY)}
        for _ in range(2):
            with (
                opened([front], authority, source, user=APP_USER) as proxy,
                pytest.raises(place.error, match=r"PAM authentication failed|Access denied"),
            ):
                proxy.connect()


@pytest.mark.server("postgresql-15")
def test_another_key_is_refused_for_good(aws, authority, names):
    """A fresh token is no better: the server's refusal is raised, after two attempts."""
    with Place("postgresql-15") as place, instance_of(place.server, authority) as front:
        (front,) = with_names([front], names)
        front.keys = {"AKIDOTHER": AccessKey(SECRET_KEY)}
        assert KEY_ID not in front.keys
        with opened([front], authority, IamToken(), user=APP_USER) as proxy:
            with pytest.raises(Exception, match="PAM authentication failed for user") as caught:
                proxy.connect()
            assert isinstance(caught.value, rdsproxy_lib.psycopg.OperationalError)
        assert len(front.refused) == 1, "a token that was made just now is not made again"
