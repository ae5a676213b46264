"""Sessions write soon after there is a writer again; `python -m tests.cluster.compare` sets others beside them."""

from __future__ import annotations

import random
import statistics

import pytest

from tests.cluster import mysql, postgresql
from tests.cluster.recovery import ours, promote

CLUSTERS = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=1),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
}
BOUNDS = {True: 0.25, False: 1.5}
"""Seconds, with the monitor and without: medians."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "events"),
    [
        pytest.param(name, events, id=f"{name}-{events}", marks=[pytest.mark.server(name), *marks])
        for name in CLUSTERS
        for events, marks in ((3, ()), (25, (pytest.mark.long, pytest.mark.timeout(300))))
    ],
)
def test_sessions_write_soon_after_a_promotion(name, events, record_property):
    """The median of some promotions: 250 ms with the monitor, 1.5 s without."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    dice = random.Random(1)
    for _ in range(events):
        with CLUSTERS[name]() as cluster:
            clients = [(has_monitor, ours(cluster, monitor=has_monitor)) for has_monitor in seconds]
            for has_monitor, each in promote(cluster, clients, outage=dice.uniform(0.5, 1.5)).items():
                seconds[has_monitor].append(each)
    medians = {has_monitor: statistics.median(values) for has_monitor, values in seconds.items()}
    texts = [
        f"{median * 1000:.0f} ms {'with' if which else 'without'} the monitor" for which, median in medians.items()
    ]
    record_property("seed", f"{name}, {events} promotions, to the first INSERT: {', '.join(texts)}")
    assert all(median < BOUNDS[has_monitor] for has_monitor, median in medians.items()), medians
