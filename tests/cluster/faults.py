"""What can happen to a cluster while clients work with it: the rows of the fault matrix."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster.history import Clients
from tests.cluster.nodes import until

OUTAGE = 0.2
"""Seconds for which there is no writer."""
BEFORE_THE_FENCE = 0.4
"""Seconds after a promotion until somebody makes sure that the old writer, which says nothing, serves nobody."""
CUTS = 5
"""How many COMMITs, or results, are cut."""


@dataclass
class Stage:
    """Where a fault happens."""

    cluster: Any
    clients: Clients
    has_monitor: bool
    new: Any = None
    """The one that was promoted."""

    @property
    def old(self) -> Any:
        """The writer."""
        return self.cluster.nodes[0]

    def promote(self) -> None:
        """The node that has everything becomes the writer."""
        self.new = self.cluster.successor()
        self.new.promote()

    def fence(self) -> None:
        """Without a monitor nothing tells clients that a host is silent but the kernel's own time limits.

        They cannot run out here: a relay on this machine acknowledges every byte. So what ends the waiting is what
        ends it in operation too: the old writer is shot, and its address refuses connections.
        """
        if not self.has_monitor:
            time.sleep(BEFORE_THE_FENCE)
            self.old.fence()
            self.clients.wake()


def kill(stage: Stage) -> None:
    """The writer dies, and another node is promoted."""
    stage.old.kill()
    time.sleep(OUTAGE / 2)
    stage.clients.wake()
    time.sleep(OUTAGE / 2)
    stage.promote()


def switch_over(stage: Stage) -> None:
    """Planned: the old writer takes no more writes, the new one has all of them before it takes its place."""
    stage.old.refuse_writes()
    stage.clients.wake()
    time.sleep(OUTAGE)
    stage.promote()


def shut_down(stage: Stage) -> None:
    """Planned, without a word to anybody: the old writer is stopped in order, another node promoted."""
    stage.old.server.stop()
    time.sleep(OUTAGE / 2)
    stage.clients.wake()
    time.sleep(OUTAGE / 2)
    stage.promote()


def freeze(stage: Stage) -> None:
    """The network of the writer holds everything back, new connections too."""
    stage.old.relay.freeze()
    time.sleep(OUTAGE)
    stage.promote()
    stage.fence()


def blackhole(stage: Stage) -> None:
    """The network of the writer swallows everything."""
    stage.old.relay.blackhole()
    time.sleep(OUTAGE)
    stage.promote()
    stage.fence()


def sigstop(stage: Stage) -> None:
    """The writer's processes stop where they are; its kernel goes on accepting connections."""
    stage.old.freeze()
    time.sleep(OUTAGE)
    stage.promote()
    stage.fence()


def restart(stage: Stage) -> None:
    """The writer dies and comes back."""
    stage.old.kill()
    time.sleep(OUTAGE / 2)
    stage.clients.wake()
    time.sleep(OUTAGE / 2)
    stage.old.server.start()


def reset_storm(stage: Stage) -> None:
    """All connections are reset, again and again."""
    for _ in range(6):
        stage.old.relay.reset_all()
        time.sleep(0.15)


def lose_reader(stage: Stage) -> None:
    """A standby that nobody reads from dies, and the writer has another one."""
    stage.cluster.nodes[-1].kill()
    stage.clients.wake()
    time.sleep(OUTAGE)


def lose_reader_in_use(stage: Stage) -> None:
    """The standby dies that most sessions of the readers' endpoint read from."""
    reader = max(stage.cluster.nodes[1:], key=lambda node: node.sessions())
    assert reader.sessions()
    reader.kill()
    stage.clients.wake()
    time.sleep(OUTAGE)


def cut_commits(stage: Stage) -> None:
    """Connections are cut about when a COMMIT is asked for and answered, until some of them hit one."""
    dice = random.Random(1)

    def cut_one() -> bool:
        stage.clients.wait_for_a_commit()
        stage.old.relay.cut_after(dice.randrange(20), dice.choice(("to_server", "to_client")))
        time.sleep(0.01)
        return len(stage.clients.history.commits) >= CUTS

    until(cut_one, "COMMITs were cut")


def cut_results(stage: Stage) -> None:
    """Connections are cut in the middle of a big result."""
    dice = random.Random(1)

    def cut_one() -> bool:
        stage.old.relay.cut_after(dice.randrange(60_000), "to_client")
        time.sleep(0.02)
        kinds = stage.clients.history.cuts
        return kinds.count("result") >= CUTS and kinds.count("stream") >= 1

    until(cut_one, "results were cut")


@dataclass(frozen=True)
class Fault:
    """One row: what happens, and what has to be true of it."""

    strike: Callable[[Stage], None]
    moves: bool = False
    """Another node is the writer afterwards."""
    hides: bool = False
    """The old writer says nothing, and comes back as if nothing had been."""
    spares: frozenset[str] = frozenset()
    """Engines on which nothing outside of a transaction gets an error."""
    cuts_some: bool = False
    """Only those connections on which something is under way."""
    spares_all: bool = False
    """Nobody notices anything."""
    takes_readers: bool = False
    """Threads that only read do so at the readers' endpoint; they alone may notice, and once each."""
    standbys: int = 1
    repeats: int = 1
    """In the short run; the long one has ten of each."""

    @property
    def name(self) -> str:
        return self.strike.__name__


ALL = frozenset({"postgresql-15", "mariadb-10.11", "mysql-9.7"})
FAULTS = (
    Fault(kill, moves=True, standbys=2, repeats=3),
    Fault(switch_over, moves=True, spares=ALL, repeats=3),
    Fault(freeze, moves=True, hides=True),
    Fault(blackhole, moves=True, hides=True, repeats=3),
    Fault(sigstop, moves=True, hides=True),
    Fault(restart),
    Fault(reset_storm),
    Fault(lose_reader, spares_all=True, standbys=2),
    Fault(lose_reader_in_use, takes_readers=True, cuts_some=True, standbys=2),
    Fault(cut_commits, cuts_some=True, repeats=3),
    Fault(cut_results, cuts_some=True),
    Fault(shut_down, moves=True, repeats=0),  # for the servers kill() in slow motion
)
