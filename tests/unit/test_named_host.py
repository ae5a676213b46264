"""Which way leads to the hosts that were named: without asking any of them."""

from __future__ import annotations

import pytest

import rdsproxy_lib
from rdsproxy_lib.cluster import WriterOpener
from rdsproxy_lib.engines.mysql import MySQLEngine
from rdsproxy_lib.engines.postgresql import PostgresEngine
from rdsproxy_lib.named_host import GroupOpener, NamedHost

D = "c1a2b3.eu-west-1.rds.amazonaws.com"
ENGINES = (PostgresEngine, MySQLEngine)
WAYS = [
    ("postgresql://app@db.example.com/shop", NamedHost, []),
    ("mysql://app@db.example.com/shop", NamedHost, []),
    ("postgresql://app@10.0.0.1:6000/shop", NamedHost, []),
    (f"postgresql://app@db1.{D}/shop", NamedHost, []),
    (f"mysql://app@world.global-{D.replace('eu-west-1', 'global')}/shop", NamedHost, []),
    (f"postgresql://app@many.shardgrp-{D}/shop", NamedHost, []),
    (f"postgresql://app@p.proxy-{D}/shop", ENGINES, []),
    (f"mysql://app@ro.endpoint.proxy-{D}/shop", ENGINES, []),
    ("postgresql:///shop?host=/var/run/postgresql", ENGINES, []),
    ("postgresql:///shop", ENGINES, []),
    ("mysql://app@/shop?unix_socket=/run/mysqld.sock", ENGINES, []),
    ("mysql://app@/shop", ENGINES, []),
    (f"postgresql://app@shop.cluster-{D}/shop?hostaddr=10.0.0.1", ENGINES, []),
    (f"postgresql://app@shop.cluster-{D}/shop?target_session_attrs=standby", ENGINES, []),
    ("postgresql://app@db1,db2/shop", WriterOpener, ["db1:5432", "db2:5432"]),
    (f"postgresql://app@db1.{D},db2.{D}/shop", WriterOpener, [f"db1.{D}:5432", f"db2.{D}:5432"]),
    (f"postgresql://app@shop.cluster-{D}/shop", WriterOpener, [f"shop.cluster-{D}:5432"]),
    (f"mysql://app@shop.cluster-{D}:3307/shop", WriterOpener, [f"shop.cluster-{D}:3307"]),
    (f"mysql://app@SHOP.CLUSTER-{D}./shop", WriterOpener, [f"SHOP.CLUSTER-{D}.:3306"]),
    (
        f"postgresql://app@shop.cluster-ro-{D},shop.cluster-{D},db7.{D}/shop",
        WriterOpener,
        [f"shop.cluster-{D}:5432", f"shop.cluster-ro-{D}:5432"],
    ),
    (f"postgresql://app@shop.cluster-ro-{D}/shop", GroupOpener, [f"shop.cluster-ro-{D}:5432"]),
    (f"mysql://app@some.cluster-custom-{D}/shop", GroupOpener, [f"some.cluster-custom-{D}:3306"]),
]


@pytest.mark.parametrize(("url", "kind", "targets"), WAYS, ids=[url for url, *_ in WAYS])
def test_the_way_that_a_name_leads(url, kind, targets):
    """One host, a proxy of RDS, a socket, several hosts, a cluster; and the targets known before any is asked."""
    with rdsproxy_lib.Proxy(url) as proxy:
        assert isinstance(proxy._way, kind)
        assert (proxy.cluster is None) == (targets == [])
        if targets:
            assert [target.host for target in proxy.targets()] == targets


def test_an_address_from_the_environment_is_that_of_one_host(monkeypatch):
    """As with libpq, and as one that is given; several hosts have none in common."""
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    with rdsproxy_lib.Proxy(f"postgresql://app@shop.cluster-{D}/shop") as proxy:
        assert isinstance(proxy._way, ENGINES)
    with rdsproxy_lib.Proxy("postgresql://app@db1,db2/shop") as proxy:
        assert isinstance(proxy._way, WriterOpener)


def test_the_shared_proxies_go_the_same_way():
    """They have the port among the driver's arguments."""
    with rdsproxy_lib.Proxy(
        engine="postgresql", host=f"shop.cluster-{D}", driver_options={"port": "6000", "user": "app"}
    ) as proxy:
        assert [target.host for target in proxy.targets()] == [f"shop.cluster-{D}:6000"]


def test_the_port_may_come_from_the_environment(monkeypatch):
    """PGPORT, as for libpq."""
    monkeypatch.setenv("PGPORT", "6001")
    with rdsproxy_lib.Proxy(f"postgresql://app@shop.cluster-{D}/shop") as proxy:
        assert [target.host for target in proxy.targets()] == [f"shop.cluster-{D}:6001"]


def test_what_is_no_port_is_left_to_the_driver():
    """It says so in its own words at the first connection."""
    with rdsproxy_lib.Proxy(
        engine="mysql", host=f"shop.cluster-{D}", driver_options={"port": "many", "user": "app"}
    ) as proxy:
        assert proxy.cluster is None
