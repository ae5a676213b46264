"""The names that AWS gives to database endpoints: what each of them stands for. Pure.

Shapes: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html, and for other
partitions https://docs.aws.amazon.com/general/latest/gr/rds-service.html. A name of one's own that leads there (a
CNAME) shows nothing, and is an OTHER.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    """What an endpoint's name stands for."""

    INSTANCE = auto()
    WRITER = auto()
    """Of a cluster: Aurora's, or a Multi-AZ DB cluster's."""
    READER = auto()
    """Of a cluster: any of its readers."""
    CUSTOM = auto()
    """Of a cluster: any of the instances that somebody chose."""
    PROXY = auto()
    PROXY_ENDPOINT = auto()
    GLOBAL = auto()
    """Of a global database: the writer of its present primary cluster."""
    SHARD_GROUP = auto()
    """Of Aurora Limitless."""
    OTHER = auto()
    """No name of AWS'."""


CLUSTER_KINDS = (Kind.WRITER, Kind.READER, Kind.CUSTOM)
"""Names that stand for hosts which have names of their own."""
PROXY_KINDS = (Kind.PROXY, Kind.PROXY_ENDPOINT)

_PREFIXES = {
    "cluster-custom-": Kind.CUSTOM,
    "cluster-ro-": Kind.READER,
    "cluster-": Kind.WRITER,
    "proxy-": Kind.PROXY,
    "global-": Kind.GLOBAL,
    "shardgrp-": Kind.SHARD_GROUP,
    "": Kind.INSTANCE,
}
_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_IDENTIFIER = re.compile("(?!-)[a-z0-9-]{1,63}(?<!-)").fullmatch
# Of most regions the name stands before the service; in China and GovCloud it is met on either side.
_NAME = re.compile(
    rf"(?P<identifier>{_LABEL})\.(?P<endpoint>endpoint\.)?"
    r"(?P<prefix>cluster-custom-|cluster-ro-|cluster-|proxy-|global-|shardgrp-|)(?P<unique>[a-z0-9]+)\."
    r"(?P<suffix>(?:(?P<before>[a-z0-9-]+)\.rds|rds\.(?P<behind>[a-z0-9-]+))"
    r"\.(?:amazonaws\.com|amazonaws\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov))"
).fullmatch


@dataclass(frozen=True, slots=True)
class EndpointName:
    """An endpoint's name taken apart. Made by `parsed`."""

    kind: Kind
    identifier: str = ""
    """The name of the instance, cluster, endpoint or proxy; empty for one that is not AWS'."""
    unique: str = ""
    """What AWS gives an account in a region, and all its endpoints there have in common."""
    region: str = ""
    """Empty for a global database, which has several."""
    suffix: str = ""
    """What stands behind, with the region in it."""

    def instance(self, server_id: str) -> str:
        """The name of an instance of the same account and region.

        Raises ValueError where there is no such region, and for what is no identifier: that comes from a query, and the
        password goes to where it leads.
        """
        if not self.region or _IDENTIFIER(server_id) is None:
            raise ValueError(f"not the identifier of an instance: {server_id!r}")
        return f"{server_id}.{self.unique}.{self.suffix}"


NOT_AWS = EndpointName(Kind.OTHER)


def parsed(host: str) -> EndpointName:
    """What a host's name says. Addresses, sockets, and names that AWS did not give, are `NOT_AWS`."""
    found = _NAME(host.removesuffix(".").lower())
    if found is None:
        return NOT_AWS
    kind = _PREFIXES[found["prefix"]]
    if found["endpoint"]:
        if kind is not Kind.PROXY:
            return NOT_AWS
        kind = Kind.PROXY_ENDPOINT
    region = found["before"] or found["behind"]
    if (region == "global") != (kind is Kind.GLOBAL):
        return NOT_AWS
    return EndpointName(
        kind, found["identifier"], found["unique"], "" if region == "global" else region, found["suffix"]
    )
