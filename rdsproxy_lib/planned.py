"""Planned work on the servers: a proxy is paused, or one of its hosts drained, before anything is done to them.

What is under way comes to its end, what comes later waits. Where something does not end in time there is an error, and
the proxy goes on as if nothing had been asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from . import errors
from .cluster import Cluster
from .pool import Pool
from .topology import Endpoint

logger = logging.getLogger(__name__)


def withhold(
    pools: Callable[[], Sequence[Pool]], cluster: Cluster | None, endpoint: Endpoint | None, what: str, timeout: float
) -> None:
    """Lend nothing on this endpoint, or under None nothing at all, and wait until all of it is back.

    Those of `pools` that are made meanwhile begin as the first one is (`Pool.begin_like`), which so comes first. `what`
    is what the application asked for. Raises DrainTimeout after `timeout` seconds, and ProxyClosed.
    """
    since = time.monotonic()
    try:
        pools()[0].withhold(endpoint, since)
        for pool in pools():
            pool.withhold(endpoint, since)
        if cluster is not None and endpoint is not None:
            cluster.drain(endpoint)
        for pool in pools():
            if why := pool.wait_until_returned(endpoint, since + timeout):
                raise errors.DrainTimeout(
                    f"{what} timed out after {timeout:.1f} s: {why}. It is taken back, and statements go on; end the"
                    " transactions or close the sessions that are named, or give more time"
                )
        logger.info("%s: no database connection is left", what)
    except BaseException:  # an interrupt, wherever it fell: what tells is who has begun it
        if pools()[0].withheld_since(endpoint) in (since, None):  # None: resume() may have come before drain() above
            _allow(pools, cluster, endpoint)
        raise


def _allow(pools: Callable[[], Sequence[Pool]], cluster: Cluster | None, endpoint: Endpoint | None) -> None:
    if cluster is not None and endpoint is not None:
        cluster.allow(endpoint)
    pools()[0].allow(endpoint)
    for pool in pools():
        pool.allow(endpoint)


def allow(pools: Callable[[], Sequence[Pool]], cluster: Cluster | None, endpoint: Endpoint | None, what: str) -> None:
    """End `withhold`. Does nothing where that is not so."""
    _allow(pools, cluster, endpoint)
    logger.info("%s: statements go on", what)


def endpoint_of(host: str, targets: Iterable[str], cluster: Cluster | None) -> Endpoint | None:
    """Which of the targets is meant, by its name with or without the port; None, for all, where there is but one host.

    Raises ConfigurationError.
    """
    known = {name: host in (name, _without_port(name)) for name in targets}
    if sum(known.values()) != 1:
        problem = "is more than one" if any(known.values()) else "is none"
        raise errors.ConfigurationError(f"{host!r} {problem} of the targets {', '.join(known)}")
    if cluster is None:
        return None
    members = (*cluster.view.members, *cluster.drained)
    if not members:
        raise errors.ConfigurationError(f"{host!r}: which hosts there are, is known with the first database connection")
    return next(each for each in members if known[str(each)])


def _without_port(name: str) -> str:
    host, _, port = name.rpartition(":")
    return host.strip("[]") if port.isdigit() else name
