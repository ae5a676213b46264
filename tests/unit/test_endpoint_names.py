"""The names of AWS' endpoints: each shape is told, and an instance's name is built from its cluster's."""

from __future__ import annotations

import pytest

from rdsproxy_lib.endpoint_names import NOT_AWS, EndpointName, Kind, parsed

ADDRESSES = ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%eth0", "2001:db8::1"]
SHAPES = [
    ("db1.c1a2b3.eu-west-1.rds.amazonaws.com", Kind.INSTANCE, "db1", "eu-west-1"),
    ("db1-green-a1b2c3.c1a2b3.eu-west-1.rds.amazonaws.com", Kind.INSTANCE, "db1-green-a1b2c3", "eu-west-1"),
    ("db1-old1.c1a2b3.eu-west-1.rds.amazonaws.com", Kind.INSTANCE, "db1-old1", "eu-west-1"),
    ("cluster-1.c1a2b3.eu-west-1.rds.amazonaws.com", Kind.INSTANCE, "cluster-1", "eu-west-1"),
    ("shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com", Kind.WRITER, "shop", "eu-west-1"),
    ("shop.cluster-ro-c1a2b3.eu-west-1.rds.amazonaws.com", Kind.READER, "shop", "eu-west-1"),
    ("big.cluster-custom-c1a2b3.eu-west-1.rds.amazonaws.com", Kind.CUSTOM, "big", "eu-west-1"),
    ("p.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", Kind.PROXY, "p", "eu-west-1"),
    ("ro.endpoint.proxy-c1a2b3.eu-west-1.rds.amazonaws.com", Kind.PROXY_ENDPOINT, "ro", "eu-west-1"),
    ("world.global-c1a2b3.global.rds.amazonaws.com", Kind.GLOBAL, "world", ""),
    ("many.shardgrp-c1a2b3.us-east-1.rds.amazonaws.com", Kind.SHARD_GROUP, "many", "us-east-1"),
    # China: the region behind the service, and in older names before it.
    ("db1.c1a2b3.rds.cn-north-1.amazonaws.com.cn", Kind.INSTANCE, "db1", "cn-north-1"),
    ("db1.c1a2b3.cn-northwest-1.rds.amazonaws.com.cn", Kind.INSTANCE, "db1", "cn-northwest-1"),
    ("shop.cluster-c1a2b3.rds.cn-north-1.amazonaws.com.cn", Kind.WRITER, "shop", "cn-north-1"),
    ("shop.cluster-ro-c1a2b3.cn-north-1.rds.amazonaws.com.cn", Kind.READER, "shop", "cn-north-1"),
    ("shop.cluster-custom-c1a2b3.rds.cn-north-1.amazonaws.com.cn", Kind.CUSTOM, "shop", "cn-north-1"),
    ("p.proxy-c1a2b3.rds.cn-north-1.amazonaws.com.cn", Kind.PROXY, "p", "cn-north-1"),
    ("ro.endpoint.proxy-c1a2b3.rds.cn-north-1.amazonaws.com.cn", Kind.PROXY_ENDPOINT, "ro", "cn-north-1"),
    ("many.shardgrp-c1a2b3.rds.cn-north-1.amazonaws.com.cn", Kind.SHARD_GROUP, "many", "cn-north-1"),
    # GovCloud, ISO, ISO-B
    ("db1.c1a2b3.us-gov-west-1.rds.amazonaws.com", Kind.INSTANCE, "db1", "us-gov-west-1"),
    ("shop.cluster-c1a2b3.rds.us-gov-east-1.amazonaws.com", Kind.WRITER, "shop", "us-gov-east-1"),
    ("db1.c1a2b3.rds.us-iso-east-1.c2s.ic.gov", Kind.INSTANCE, "db1", "us-iso-east-1"),
    ("shop.cluster-ro-c1a2b3.rds.us-iso-east-1.c2s.ic.gov", Kind.READER, "shop", "us-iso-east-1"),
    ("shop.cluster-c1a2b3.us-iso-west-1.rds.c2s.ic.gov", Kind.WRITER, "shop", "us-iso-west-1"),
    ("shop.cluster-c1a2b3.rds.us-isob-east-1.sc2s.sgov.gov", Kind.WRITER, "shop", "us-isob-east-1"),
    ("p.proxy-c1a2b3.rds.us-isob-east-1.sc2s.sgov.gov", Kind.PROXY, "p", "us-isob-east-1"),
    # As people write them
    ("SHOP.Cluster-C1A2B3.EU-West-1.RDS.AmazonAWS.com", Kind.WRITER, "shop", "eu-west-1"),
    ("shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com.", Kind.WRITER, "shop", "eu-west-1"),
]
NOT_OURS = [
    *ADDRESSES,
    "",
    "localhost",
    "db.example.com",
    "db1.internal",
    "/var/run/postgresql",
    "@abstract",
    "shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com.example.com",
    "shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.org",
    "shop.cluster-c1a2b3.eu-west-1.rdsXamazonaws.com",
    "shop.cluster-c1a2b3.eu-west-1.ec2.amazonaws.com",
    "shop.cluster-c1a2b3.rds.amazonaws.com",
    "cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
    "a.b.cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
    "shop.endpoint.cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
    "shop.cluster-c1a2b3.global.rds.amazonaws.com",
    "world.global-c1a2b3.eu-west-1.rds.amazonaws.com",
    "-shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
    "shop.cluster-.eu-west-1.rds.amazonaws.com",
    "shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com\n",
    "shop .cluster-c1a2b3.eu-west-1.rds.amazonaws.com",
]


@pytest.mark.parametrize(("host", "kind", "identifier", "region"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_each_shape_is_told(host, kind, identifier, region):
    """With the name in it, and the region."""
    name = parsed(host)
    assert (name.kind, name.identifier, name.region) == (kind, identifier, region)


@pytest.mark.parametrize("host", NOT_OURS)
def test_other_names_are_nothing_of_aws(host):
    """Addresses, sockets, names of one's own, and what only looks like one."""
    assert parsed(host) is NOT_AWS


@pytest.mark.parametrize("host", [shape[0] for shape in SHAPES if shape[3]])
def test_an_instance_of_the_same_account_has_a_name_of_the_same_shape(host):
    """Built from any endpoint, it is an instance's, of the same region and account."""
    name = parsed(host)
    assert name.unique == "c1a2b3"
    assert parsed(name.instance("db-7")) == EndpointName(Kind.INSTANCE, "db-7", name.unique, name.region, name.suffix)


def test_the_name_of_an_instance():
    """The cluster's, with the identifier in place of its own."""
    cluster = parsed("shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com")
    assert cluster.instance("shop-2") == "shop-2.c1a2b3.eu-west-1.rds.amazonaws.com"
    china = parsed("shop.cluster-ro-c1a2b3.rds.cn-north-1.amazonaws.com.cn")
    assert china.instance("shop-2") == "shop-2.c1a2b3.rds.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize(
    "server_id",
    ["", "a.b", "evil.example.com", "a/b", "a b", "DB1", "dé", "-a", "a-", "a" * 64, "a\n", "a@b", "a:5432"],
)
def test_what_is_no_identifier_makes_no_name(server_id):
    """It came from a query: a password goes to where the name leads."""
    with pytest.raises(ValueError, match="not the identifier"):
        parsed("shop.cluster-c1a2b3.eu-west-1.rds.amazonaws.com").instance(server_id)


@pytest.mark.parametrize("name", [NOT_AWS, parsed("world.global-c1a2b3.global.rds.amazonaws.com")])
def test_a_name_without_a_region_makes_no_instances(name):
    """Nothing is known of where they would be."""
    with pytest.raises(ValueError, match="not the identifier"):
        name.instance("db1")
