"""Whose AWS credentials ask for a secret and sign a token: a role's, a container's, a Lambda function's."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

import pytest

from rdsproxy_lib import TLS, IamToken, SecretsManager
from tests.cluster.history import run
from tests.login.front import KEY_ID, REGION, AccessKey
from tests.login.place import source_of
from tests.login.secrets_manager import listening
from tests.servers import APP_PASSWORD, APP_USER

pytestmark = pytest.mark.usefixtures("names")

ROLE = "arn:aws:iam::123456789012:role/shop-db"


@pytest.fixture
def tls(authority) -> TLS:
    """With the authority of this run."""
    return TLS(ca_file=str(authority.ca_file))


@pytest.fixture
def no_key(aws) -> Any:
    """There are no AWS credentials in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        aws.delenv(name)
    return aws


def logs_in(place, front, **options) -> None:
    """A Proxy does, and works."""
    with place.proxy(front, **options) as proxy, proxy.connect() as conn:
        assert run(conn, "select 1") == [(1,)]
    assert not front.refused


# -- a role that may read the secret


def test_a_secret_is_read_by_a_role_in_a_session(place, authority, service, tls):
    """`session=`: the service sees the role's key, and not that of the environment."""
    arn = service.create("roles/session", username=APP_USER, password=APP_PASSWORD)
    session = service.role_session(ROLE, 3600)  # a shorter one boto3 would renew each time
    source = SecretsManager(arn, endpoint_url=service.endpoint_url, session=session)
    with place.front(authority=authority) as front:
        logs_in(place, front, credentials=source, tls=tls)
    assert service.calls[-1].operation == "GetSecretValue"
    assert service.calls[-1].key_id == session.get_credentials().access_key != KEY_ID


def test_a_secret_is_read_by_the_role_of_a_profile(place, authority, service, aws, tls, tmp_path):
    """`profile=`: boto3 assumes the role that is in ~/.aws/config, with the credentials of the application."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile shop-db]\nrole_arn = {ROLE}\ncredential_source = Environment\nregion = {REGION}\n"
        f"endpoint_url = {service.endpoint_url}\n"
    )
    aws.setenv("AWS_CONFIG_FILE", str(config))
    aws.setenv("AWS_ENDPOINT_URL_STS", service.endpoint_url)
    aws.delenv("AWS_DEFAULT_REGION")
    service.create("roles/profile", username=APP_USER, password=APP_PASSWORD)
    source = SecretsManager("roles/profile", profile="shop-db")
    with place.front(authority=authority) as front:
        logs_in(place, front, credentials=source, tls=tls)
    assert [(call.operation, call.key_id == KEY_ID) for call in service.calls] == [
        ("AssumeRole", True),
        ("GetSecretValue", False),
    ]
    assert service.calls[-1].key_id.startswith("ASIA")


# -- a container, a Lambda function


@contextmanager
def metadata(key_id: str, key: AccessKey, authorization: str) -> Iterator[str]:
    """What gives a container its credentials, as ECS' agent and EKS' do; its URL."""
    ends = datetime.now(timezone.utc) + timedelta(hours=6)
    answer = {
        "RoleArn": ROLE,
        "AccessKeyId": key_id,
        "SecretAccessKey": key.secret,
        "Token": key.session_token,
        "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers.get("Authorization") == authorization
            body = json.dumps(answer if is_known else {"message": "who are you?"}).encode()
            self.send_response(200 if is_known else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """It is of no interest."""

    with listening(Answers) as url:
        yield f"{url}/v1/credentials"


def signed_by(front) -> list[tuple[str, str]]:
    """The id of the key and the session token that each token was signed with."""
    said = [parse_qs(login.token) for login in front.logins if login.token]
    return [(each["X-Amz-Credential"][0].partition("/")[0], each["X-Amz-Security-Token"][0]) for each in said]


def test_a_token_is_signed_with_what_a_container_was_given(place, authority, no_key, tls):
    """AWS_CONTAINER_CREDENTIALS_FULL_URI, and the word with which one is let in there."""
    key = AccessKey("container-secret", "container-token/+=&")
    with place.front(check="iam", authority=authority) as front, metadata("ASIACONTAINER", key, "let me in") as url:
        front.keys = {"ASIACONTAINER": key}
        no_key.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        no_key.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in")
        logs_in(place, front, credentials=IamToken(), tls=tls)
        assert set(signed_by(front)) == {("ASIACONTAINER", key.session_token)}


def test_a_token_is_signed_with_what_lambda_puts_into_the_environment(place, authority, aws, tls):
    """The function's execution role: a temporary key and its session token."""
    key = AccessKey("lambda-secret", "lambda-token/+=&")
    aws.setenv("AWS_ACCESS_KEY_ID", "ASIALAMBDA")
    aws.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    aws.setenv("AWS_SESSION_TOKEN", key.session_token)
    with place.front(check="iam", authority=authority) as front:
        front.keys = {"ASIALAMBDA": key}
        logs_in(place, front, credentials=IamToken(), tls=tls)
        assert set(signed_by(front)) == {("ASIALAMBDA", key.session_token)}


def test_a_secret_is_read_with_what_lambda_puts_into_the_environment(place, authority, service, aws, tls):
    """The same role may read it: nothing else is said in the code."""
    source = source_of(service, "roles/lambda")
    aws.setenv("AWS_ACCESS_KEY_ID", "ASIALAMBDA")
    aws.setenv("AWS_SESSION_TOKEN", "lambda-token")
    with place.front(authority=authority) as front:
        logs_in(place, front, credentials=source, tls=tls)
    assert {call.key_id for call in service.calls} == {"ASIALAMBDA"}


# -- the master secret that RDS manages


def test_the_master_secret_of_rds_logs_in(place, authority, service, tls):
    """It has user and password only, as RDS made them: engine and host are given."""
    made = service.client("rds").create_db_cluster(
        DBClusterIdentifier=f"shop-{secrets.token_hex(4)}",
        Engine=f"aurora-{place.engine}",
        MasterUsername="admin",
        ManageMasterUserPassword=True,
    )["DBCluster"]
    arn = made["MasterUserSecret"]["SecretArn"]
    kept = service.read(arn)
    assert kept.keys() == {"username", "password"}
    user = kept["username"]
    place.add_user(user, kept["password"])
    try:
        with place.front(authority=authority) as front:
            source = SecretsManager(arn, endpoint_url=service.endpoint_url)
            logs_in(place, front, user=None, credentials=source, tls=tls)
            assert {login.user for login in front.logins} == {user}
    finally:
        place.drop_user(user)
