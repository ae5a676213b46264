"""Passwords change under an application that works: it does not notice, and nobody is asked too often."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

import rdsproxy_lib
from tests.login.load import CLUSTERS, THREADS, Load, check, opened
from tests.login.place import SERVERS, Place, front_of, source_of
from tests.login.rotation import Rotation

ROTATIONS = 20
HOLD = 0.08
"""Seconds between two steps of a rotation: some logins fall into each."""
ENGINES = [
    pytest.param(name, marks=[pytest.mark.server(name), *([pytest.mark.long] if name == "mysql-9.7" else [])])
    for name in SERVERS
]
"""What is true of MariaDB is, for the library, true of MySQL: that takes its turn in the long run."""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single-user", "alternating-users"])
@pytest.mark.parametrize("engine", ENGINES)
def test_twenty_rotations_are_not_noticed(engine, strategy, service, authority, record_property):
    """At most one login is refused in each, and the service is asked as often as there are rotations, not logins."""
    with Place(engine) as place, place.front(authority=authority) as front:
        source = source_of(service, f"{engine}-{strategy}")
        rotation = Rotation(service, place.server, source.secret_id, strategy=strategy)
        with opened([front], authority, source) as proxy:
            with Load(proxy) as load:
                for number in range(ROTATIONS):
                    refused = len(front.refused)
                    rotation.rotate(HOLD)
                    load.go_on()
                    assert len(front.refused) - refused <= 1, f"rotation {number}"
            check(load)
    calls = service.count()
    record_property(
        "seed",
        f"rotation: {engine}, {strategy}: {ROTATIONS} rotations, {len(front.logins)} logins, {len(front.refused)}"
        f" refused, {calls} calls of GetSecretValue, {load.turns} sessions, longest {load.longest * 1000:.0f} ms",
    )
    assert len(front.logins) > 5 * ROTATIONS
    assert calls <= 1 + 2 * len(front.refused)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single-user", "alternating-users"])
@pytest.mark.parametrize("engine", [each for each in ENGINES if each.values[0] in CLUSTERS])
def test_a_switchover_in_the_middle_of_a_rotation_is_not_noticed(engine, strategy, service, authority):
    """The old writer has the new password already, and another host is the writer when the rotation goes on."""
    with CLUSTERS[engine]() as cluster, ExitStack() as stack:
        old, new = cluster.nodes
        fronts = [stack.enter_context(front_of(node.server, authority=authority)) for node in cluster.nodes]
        source = source_of(service, f"{engine}-{strategy}-moved")
        rotation = Rotation(service, old.server, source.secret_id, strategy=strategy)
        with opened(fronts, authority, source) as proxy:
            with Load(proxy) as load:
                rotation.rotate(HOLD)
                for step in rotation.steps():
                    if step == "setSecret":
                        if strategy == "alternating-users":  # else the new password is known to nobody yet
                            load.go_on()
                        old.refuse_writes()
                        new.promote()
                        rotation.server = new.server
                    load.go_on()
                rotation.rotate(HOLD)
                load.go_on()
            check(load)
            assert [target.host for target in proxy.targets() if target.role == "READ_WRITE"] == [
                f"{fronts[1].host}:{fronts[1].port}"
            ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [each for each in ENGINES if each.values[0] in CLUSTERS])
def test_the_death_of_the_writer_in_the_middle_of_a_rotation_costs_no_more_than_without(engine, service, authority):
    """Statements that were under way are told that nobody knows; none that begins later is told anything."""
    with CLUSTERS[engine]() as cluster, ExitStack() as stack:
        old, new = cluster.nodes
        fronts = [stack.enter_context(front_of(node.server, authority=authority)) for node in cluster.nodes]
        source = source_of(service, f"{engine}-killed")
        rotation = Rotation(service, old.server, source.secret_id)
        with opened(fronts, authority, source) as proxy:
            with Load(proxy) as load:
                load.go_on()
                for step in rotation.steps():
                    if step == "setSecret":
                        old.kill()
                        new.promote()
                        rotation.server = new.server
                    load.go_on()
            assert all(isinstance(error, rdsproxy_lib.OutcomeUnknown) for error in load.errors), load.errors
            assert len(load.errors) <= THREADS
            written, acknowledged = load.written()
            assert acknowledged <= written <= acknowledged + len(load.errors)
