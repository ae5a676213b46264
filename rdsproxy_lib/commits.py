"""What became of a COMMIT that was cut: a token that goes with the transaction tells (`resolve_commits`).

A transaction that wrote something leaves one row in a table of the user's, with a token of its own and `is_committed`
true, just before its COMMIT. So the row is there exactly if the work is. Where the COMMIT is cut, the writer is asked
for the token, by a transaction of ours that inserts the same one with `is_committed` false, or else counts up `asked`
in the row that it finds; and that reads `is_committed`, which only ever says *who wrote the row*:

- true: the transaction did. It is committed.
- false: we did, now or at an earlier question. The transaction is not committed and never will be, for its own row
  would come second: what of it is still on its way is refused with the same key, and its COMMIT with it.

Why that holds, where it is not obvious:

- *The transaction is still at it.* It waits for a standby, or its server has not noticed yet that nobody is there any
  more. Then its row is locked, and the question waits for the end of it: for a second each time, again and again, until
  `connection_borrow_timeout` is over. Nothing is concluded from waiting.
- *Our own COMMIT is cut.* Its answer does not count, and the same question is asked again. Had it been committed, a row
  of ours says so (false), and one of the transaction's says true as before.
- *The row is there, but not safe yet.* A COMMIT that was waiting for its standby becomes visible when the server breaks
  off the wait. So the question always writes: its own COMMIT comes behind the other one in the same log, and is
  acknowledged only once that log is where commits have to be. A writer that was cut off from its standbys, because
  another one took its place, can acknowledge neither.
- *Another host is the writer by now.* It is asked, and no other: before each question every host says who it is, and
  its connection is opened on the one that says, on that very connection, that it is the writer. Where the old
  one had committed what nobody else has, the work is lost with it: not committed is then the truth.
- *The server crashed with an asynchronous commit in memory.* The row went with the work.

Not `pg_xact_status()`: transaction ids are used again after a crash, and it called a lost write committed.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from .backend import OpenFailed, Refusal, Way
from .sql import Statement

logger = logging.getLogger(__name__)

QUESTION_SECONDS = 5.0
"""How long one question may take, its COMMIT with it, before another connection is opened for it."""
PAUSE = 0.1
"""Seconds between two questions."""
SURVEY_SECONDS = 1.0
"""How long the other hosts have to say who they are, before the writer is asked."""
LEAST_SECONDS = 5.0
"""For how long is asked where `connection_borrow_timeout` is 0."""


class Outcome(Enum):
    """What became of a transaction."""

    COMMITTED = auto()
    UNDONE = auto()
    """Not committed, and it never will be."""
    UNKNOWN = auto()
    """Nobody could tell in time."""


class CommitEngine(Protocol):
    """What is needed of an engine for tokens. A token is 32 hexadecimal digits."""

    def check_tokens(self, backend: Any) -> None:
        """Find the table for this backend's login, and try it. Raises ConfigurationError, which tells what to do."""

    def leave_token(self, backend: Any, token: str, *, is_sure: bool) -> bool:
        """Leave the token in the open transaction, if that wrote something; `is_sure`: it did. One round trip.

        False where the transaction goes on without one. Raises where it was undone instead.
        """

    def ask_token(self, backend: Any, token: str, seconds: float) -> bool:
        """Whether the transaction with this token is committed; if not, it never will be.

        On a backend of its own, in a transaction that is committed before this returns. Raises the driver's errors
        where there is no answer within `seconds`, for one because the transaction is still at it.
        """

    def close(self, backend: Any) -> None: ...


def new_token() -> str:
    """Nobody else's, and behind those before it: a table that is filled in its order stays small."""
    milliseconds = int(time.time() * 1000)
    return f"{milliseconds & 0xFFFFFFFFFFFF:012x}{os.urandom(10).hex()}"


_COMMIT = re.compile(
    r"(?:COMMIT|END)(?: WORK| TRANSACTION)?(?: AND NO CHAIN)?(?: NO RELEASE)?", re.IGNORECASE
).fullmatch


def is_commit(statement: Statement) -> bool:
    """Whether it is a COMMIT, and nothing else: one whose outcome can be told."""
    return statement.ends_transaction and len(statement.parts) == 1 and _COMMIT(statement.parts[0].text) is not None


class Commits:
    """Asks what became of transactions. Safe for use from many threads; one question at a time."""

    def __init__(
        self, engine: CommitEngine, way: Way, survey: Callable[[Any, float], None] | None, seconds: float
    ) -> None:
        """`survey(login, seconds)` lets every host say who it is; None where there is but one.

        `seconds`: for how long one transaction is asked about.
        """
        self._engine = engine
        self._way = way
        self._survey = survey
        self._seconds = seconds or LEAST_SECONDS
        self._is_closed = False
        self._surveyed_at = -math.inf
        """When every host was asked last, at the beginning of a turn."""
        self.after_fork()

    def close(self) -> None:
        """Ask no more: who waits for an answer is told that there is none."""
        self._is_closed = True

    def after_fork(self) -> None:
        """Nobody in this process is asking."""
        self._turn = threading.Lock()

    def check(self, backend: Any) -> None:
        """See that the table is there, as this backend's login finds it. Raises ConfigurationError."""
        self._engine.check_tokens(backend)

    def outcome_of(self, login: Any, token: str) -> Outcome:
        """What became of the transaction that left this token. Asks until it is told, or the time is over."""
        since = time.monotonic()
        deadline = since + self._seconds
        while not self._is_closed and (remaining := deadline - time.monotonic()) > 0:
            if not self._turn.acquire(timeout=remaining):
                break
            try:
                is_committed = self._ask(login, token, since, deadline)
            except OpenFailed as failed:
                logger.info("nobody could be asked about a COMMIT that was cut: %s", str(failed))
                if failed.refusal is Refusal.PERMANENT:
                    break
            except Exception as error:
                logger.info("no answer about a COMMIT that was cut: %s", str(error))
            else:
                return Outcome.COMMITTED if is_committed else Outcome.UNDONE
            finally:
                self._turn.release()
            since = time.monotonic()
            time.sleep(max(0.0, min(PAUSE, deadline - time.monotonic())))
        return Outcome.UNKNOWN

    def _ask(self, login: Any, token: str, since: float, deadline: float) -> bool:
        if self._survey is not None and self._surveyed_at < since:  # else another one's turn has seen to it meanwhile
            self._surveyed_at = time.monotonic()
            self._survey(login, min(SURVEY_SECONDS, deadline - time.monotonic()))
        backend = self._way.open(login, max(0.001, min(QUESTION_SECONDS, deadline - time.monotonic())))
        try:
            return self._engine.ask_token(
                backend, token, max(0.001, min(QUESTION_SECONDS, deadline - time.monotonic()))
            )
        finally:
            self._engine.close(backend)
