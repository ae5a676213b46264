"""The service that stands for AWS counts what it is asked for, and makes the trouble it is told to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, ReadTimeoutError

from tests.login.front import KEY_ID
from tests.login.secrets_manager import Service


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    """A client with no retries, by way of the relay, with the credentials of the environment."""
    settings = Config(retries={"total_max_attempts": 1}, read_timeout=0.3, connect_timeout=1)
    client = boto3.Session().client("secretsmanager", endpoint_url=service.endpoint_url, config=settings)
    yield client
    client.close()


def test_calls_are_counted(service: Service, client: Any) -> None:
    """Each by its operation, stage and secret; what the test itself asks for is not."""
    arn = service.create("counted", username="app")
    assert service.read(arn) == {"username": "app"}
    client.get_secret_value(SecretId=arn)
    client.get_secret_value(SecretId="counted", VersionStage="AWSCURRENT")
    client.describe_secret(SecretId=arn)
    assert service.count() == service.count(stage="AWSCURRENT") == 2
    assert service.count(secret=arn) == service.count("DescribeSecret") == 1
    assert service.count(stage="AWSPENDING") == 0
    assert {call.key_id for call in service.calls} == {KEY_ID}


def test_without_a_stage_the_current_version_is_meant(service: Service, client: Any) -> None:
    """Also after a label was moved, which moto forgets."""
    arn = service.create("staged", a=1)
    first = client.get_secret_value(SecretId=arn)["VersionId"]
    second = client.put_secret_value(SecretId=arn, SecretString='{"a": 2}', VersionStages=["AWSPENDING"])["VersionId"]
    assert client.get_secret_value(SecretId=arn)["VersionId"] == first
    client.update_secret_version_stage(
        SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=second, RemoveFromVersionId=first
    )
    assert client.get_secret_value(SecretId=arn)["VersionId"] == second


def test_the_service_can_be_in_trouble(service: Service, client: Any) -> None:
    """It throttles, fails, hangs and refuses, so often or until it is told otherwise, and is well again then."""
    arn = service.create("troubled", a=1)
    with service.trouble("throttle", "GetSecretValue", times=1):
        with pytest.raises(ClientError, match="ThrottlingException"):
            client.get_secret_value(SecretId=arn)
        client.get_secret_value(SecretId=arn)
    with service.trouble("fail"), pytest.raises(ClientError, match="InternalServiceError"):
        client.get_secret_value(SecretId=arn)
    with service.trouble("hang", "GetSecretValue"):
        client.describe_secret(SecretId=arn)
        with pytest.raises(ReadTimeoutError):
            client.get_secret_value(SecretId=arn)
    with service.trouble("refuse"), pytest.raises(ConnectionError):
        client.get_secret_value(SecretId=arn)
    with service.trouble("throttle", stage="AWSPENDING"):
        assert client.get_secret_value(SecretId=arn)["SecretString"] == '{"a": 1}'
    troubles = [call.trouble for call in service.calls if call.operation == "GetSecretValue"]
    assert troubles == ["throttle", None, "fail", "hang", None]


def test_roles_and_clusters_are_there(service: Service) -> None:
    """STS gives temporary keys, which a front may be told of; RDS lists clusters and keeps passwords as secrets."""
    assumed = service.client("sts", is_counted=True).assume_role(
        RoleArn="arn:aws:iam::123456789012:role/app", RoleSessionName="tests"
    )["Credentials"]
    assert re.match("ASIA", assumed["AccessKeyId"])
    assert assumed["SessionToken"]
    rds = service.client("rds", is_counted=True)
    rds.create_db_cluster(
        DBClusterIdentifier="shop", Engine="aurora-postgresql", MasterUsername="root", ManageMasterUserPassword=True
    )
    arn = rds.describe_db_clusters()["DBClusters"][0]["MasterUserSecret"]["SecretArn"]
    assert service.read(arn).keys() == {"username", "password"}
    assert [service.count(name) for name in ("AssumeRole", "CreateDBCluster", "DescribeDBClusters")] == [1, 1, 1]
