"""What a Proxy counts."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsproxy_lib import Proxy
from rdsproxy_lib.stats import BorrowLatency, Stats


def test_a_new_proxy_counts_nothing():
    """No connection, no borrow, no pin; the limit is the option's."""
    stats = Proxy("postgresql://db/shop", max_connections=7).stats()
    assert stats.max_database_connections_allowed == 7
    for field in dataclasses.fields(Stats):
        if field.name not in ("max_database_connections_allowed", "pins", "pinned_sessions"):
            assert getattr(stats, field.name) == 0, field.name
    assert dict(stats.pins) == {}
    assert stats.pinned_sessions == ()


def test_a_snapshot_does_not_change():
    """It is frozen, its pins too."""
    stats = Proxy("postgresql://db/shop").stats()
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.client_connections = 5
    with pytest.raises(TypeError):
        stats.pins["MANUAL"] = 1


def test_without_borrows_every_quantile_is_zero():
    """No division by nothing."""
    assert BorrowLatency().quantile(0.5, 0) == 0.0
    assert BorrowLatency().quantile(0.99, 0) == 0.0


def test_borrows_that_did_not_wait_count():
    """With 99 of 100 served at once, only the last percent waited."""
    latency = BorrowLatency()
    latency.add(0.5)
    assert latency.quantile(0.99, 99) == 0.0
    assert latency.quantile(1.0, 99) >= 0.5
    assert latency.total == 0.5


@given(st.lists(st.floats(min_value=1e-6, max_value=3600), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_right_within_a_factor_of_two(waits, share):
    """Buckets double, so the answer is at least the true value and at most twice it."""
    latency = BorrowLatency()
    for wait in waits:
        latency.add(wait)
    rank = min(len(waits) - 1, max(0, -int(-share * len(waits) // 1) - 1))
    true = sorted(waits)[rank]
    assert true * 0.999 <= latency.quantile(share, 0) <= true * 2.001 + 1e-6


def test_absurd_waits_are_counted_too():
    """Nothing falls off the last bucket."""
    latency = BorrowLatency()
    latency.add(1e9)
    latency.add(0.0)
    assert sum(latency.buckets) == 2
