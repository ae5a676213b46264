"""The manager of prepared statements: it answers psycopg as psycopg's own does, whatever happens in which order."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from psycopg import pq
from psycopg._preparing import PrepareManager

from rdsproxy_lib.engines.postgresql_plans import Plans

RESULTS = [
    [SimpleNamespace(status=pq.ExecStatus.TUPLES_OK, command_status=b"SELECT 1")],
    [SimpleNamespace(status=pq.ExecStatus.COMMAND_OK, command_status=b"INSERT 0 1")],
    [SimpleNamespace(status=pq.ExecStatus.COMMAND_OK, command_status=b"ALTER TABLE")],
    [SimpleNamespace(status=pq.ExecStatus.FATAL_ERROR, command_status=None)],
    [SimpleNamespace(status=pq.ExecStatus.TUPLES_OK, command_status=b"SELECT 1")] * 2,
]


class Server:
    """What the driver asks a connection for when statements are to be deallocated."""

    def __init__(self):
        self.deallocated = []

    def _deallocate(self, name):
        self.deallocated.append(name)
        yield


def execute(manager, server, query, prepare, results):
    """The steps of a cursor around one statement, and what it learnt from each."""
    prep, name = manager.get(query, prepare)
    key = manager.maybe_add_to_cache(query, prep, name)
    if results is not None and key is not None:
        manager.validate(key, prep, name, results)
    maintained = sum(1 for _ in manager.maintain_gen(server))
    return prep, name, key, maintained, server.deallocated, list(manager._names.items()), list(manager._counts.items())


@pytest.mark.parametrize("seed", range(30))
def test_it_answers_as_the_drivers_own(seed):
    """Hundreds of statements, some to be prepared, some failing, some that end all plans, under limits that move."""
    dice = random.Random(seed)
    theirs, ours = PrepareManager(), Plans()
    their_server, our_server = Server(), Server()
    queries = [SimpleNamespace(query=b"select %d" % number, types=(number % 3,)) for number in range(12)]
    was_prepared = False
    for _ in range(400):
        if dice.random() < 0.03:
            limits = dice.choice((None, 0, 1, 5)), dice.choice((0, 2, 5, 100))
            for manager in (theirs, ours):
                manager.prepare_threshold, manager.prepared_max = limits
        query, prepare = dice.choice(queries), dice.choice((None, None, None, True, False))
        results = dice.choice(RESULTS[:2] if dice.random() < 0.8 else [*RESULTS, None])
        mine = execute(ours, our_server, query, prepare, results)
        assert mine == execute(theirs, their_server, query, prepare, results)
        was_prepared = was_prepared or mine[0].name == "YES"
    assert was_prepared
