"""Where one session reads: which of its statements go to a reader, and what that one has to have. No I/O of its own."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from .pool import Pool
from .settings import Settings
from .sql import Part, Statement
from .topology import Endpoint

if TYPE_CHECKING:
    from .readers import Readers

logger = logging.getLogger(__name__)

EVERYTHING = "*"
"""Among the suspects: no text shows what is called."""
REFUSED_SECONDS = 1.0
"""For how long a session leaves a reader alone that refused its settings."""

_HINT = re.compile(r"\s*(?:\w+\s*)?/\*\s*rdsproxy:\s*(writer|reader)\s*\*/", re.ASCII | re.IGNORECASE).match
_OF_THE_SERVER = re.compile(
    r"@@.*|pg_.*|txid_.*|inet_.*|information_schema|performance_schema|sys|mysql|version|current_catalog"
    r"|current_setting|last_value|log_cnt|is_called|is_free_lock|is_used_lock|connection_id|uuid_short|load_file"
    r"|(?:master|source)_pos_wait|wait_for_executed_gtid_set|master_gtid_wait"
).fullmatch
"""Names of what a reader may answer otherwise than the writer."""
_READS = frozenset({"SELECT", "VALUES", "TABLE"})
_CHANGING = frozenset({"CREATE", "ALTER", "DROP", "RENAME", "DO", "CALL", "EXECUTE"})
"""First words of what may change views and functions."""
_AROUND_READS = frozenset(
    {
        "",
        "ABORT",
        "BEGIN",
        "COMMIT",
        "END",
        "RELEASE",
        "RELEASE SAVEPOINT",
        "ROLLBACK",
        "ROLLBACK TO",
        "SAVEPOINT",
        "SET TRANSACTION",
        "START TRANSACTION",
    }
)
"""What writes nothing by itself, whatever it names."""


class Side(Enum):
    """Where a statement goes that a session begins with no transaction open."""

    WRITER = auto()
    READER = auto()
    """The session reads only, or the statement says where."""
    EITHER = auto()
    """It only reads: a reader, if it has what the session wrote, and nothing hidden is called."""


def side_of(statement: Statement | None, text: str, *, reads_only: bool) -> Side:
    """Where to send it. `statement` is None for what is no single statement outside of transactions; `reads_only`: the
    session said that it reads only.
    """
    if reads_only:
        return Side.READER
    if statement is None or len(statement.parts) != 1:
        return Side.WRITER
    if (hint := _HINT(text)) is not None:
        return Side.READER if hint[1].lower() == "reader" else Side.WRITER
    part = statement.parts[0]
    if not (statement.is_plain and part.reads_only and part.verb in _READS):
        return Side.WRITER
    return Side.WRITER if "" in part.names or any(map(_OF_THE_SERVER, part.names)) else Side.EITHER


class Reading:
    """Where one session reads, and what it has to find there. Used under the lock of its session."""

    __slots__ = (
        "catalogues_of",
        "decided",
        "endpoint",
        "generation",
        "has_all",
        "has_changed",
        "is_forced",
        "is_unsure",
        "is_writing",
        "noted_in",
        "only_reads",
        "position",
        "readers",
        "refused_until",
        "side",
        "splits",
        "suspects",
        "tracks",
        "types",
        "wrote_at",
    )

    def __init__(self, readers: Readers, *, splits: bool, tracks: bool) -> None:
        """`splits`: each statement goes where it belongs, else all to readers; `tracks`: it finds what it wrote."""
        self.readers = readers
        self.splits = splits
        self.tracks = tracks
        self.side = Side.WRITER if splits else Side.READER
        """Of the next borrow."""
        self.endpoint: Endpoint | None = None
        """The reader it stays with."""
        self.position: Any = None
        """What that one has to have; None for nothing, or where there are no positions."""
        self.wrote_at = 0.0
        """When that was noted (monotonic seconds); 0 for never."""
        self.noted_in = self.generation = 0
        """The generation of the hosts (see topology) that it is of, and that of the writer held last: after a failover
        it may be lost."""
        self.has_all = 0
        """Whether it has: its backends up to this serial number. One that was opened later may be of a host that came
        back with less."""
        self.is_writing = False
        """The backend that is held is the writer's, and what runs there may write."""
        self.only_reads = False
        """What runs there was found to read only, by its text and by the writer's catalogue."""
        self.is_unsure = False
        """It may have written what it has no position of."""
        self.is_forced = False
        """The next statement goes to the writer: a reader has refused it."""
        self.has_changed = False
        """Whether it ever ran what may change views or functions; and since it last did, the hosts whose catalogue was
        asked."""
        self.catalogues_of: set[Endpoint] = set()
        self.decided: Statement | None = None
        """The statement for which the side was chosen."""
        self.suspects: frozenset[str] = frozenset()
        """Names by which routines may be called that no text shows, on the host that was asked last."""
        self.refused_until: dict[Endpoint, float] = {}
        """Readers that refused its settings, and until when it leaves them alone (monotonic seconds)."""
        self.types: Collection[str] = ()
        """PostgreSQL: the numbers of types that users made, of its parameters."""

    def take_side(self, statement: Statement | None, text: str, *, reads_only: bool) -> None:
        """Decide where the next statement goes. See `side_of`."""
        if not self.splits:
            return
        self.side = Side.WRITER if self.is_forced else side_of(statement, text, reads_only=reads_only)
        self.is_forced = self.only_reads = False
        self.decided, self.types = statement, ()

    @property
    def names(self) -> frozenset[str]:
        """The words of the statement for which the side was chosen, and the types of its parameters."""
        return frozenset() if self.decided is None else self.decided.parts[0].names.union(self.types)

    def may_hide(self, names: frozenset[str]) -> bool:
        """Whether what has these words in it may call what they do not show."""
        return EVERYTHING in self.suspects or not self.suspects.isdisjoint(names)

    def is_refused(self, statement: Statement, pool: Pool) -> bool:
        """Whether the writer answers for want of a reader, and this does not provably only read."""
        if self.splits or pool is not self.readers.writers:
            return False
        return bool(statement.causes) or not all(map(self._is_harmless, statement.parts))

    def _is_harmless(self, part: Part) -> bool:
        return part.verb in _AROUND_READS or (part.reads_only and not self.may_hide(part.names))

    def successor(self) -> Reading:
        """That of a new session of the same connection."""
        found = Reading(self.readers, splits=self.splits, tracks=self.tracks)
        found.position, found.wrote_at, found.is_unsure = self.position, self.wrote_at, self.is_unsure
        found.noted_in, found.has_changed = self.noted_in, self.has_changed
        return found

    def has_failed_there(self, pool: Pool, statement: Statement) -> bool:
        """Whether a statement that failed on a backend of this pool was sent to a reader without having been asked to.

        On the writer nothing was looked for that its text does not show.
        """
        return pool is not self.readers.writers and self.side is Side.EITHER and statement is self.decided

    def leave(self, endpoint: Endpoint) -> None:
        """A reader refuses the session's settings, which may name what it does not have yet: let it be for a while."""
        self.refused_until[endpoint] = time.monotonic() + REFUSED_SECONDS
        if self.side is Side.EITHER:
            self.side = Side.WRITER

    def refusing(self, now: float) -> set[Endpoint]:
        """The readers that it leaves alone now."""
        return {endpoint for endpoint, until in self.refused_until.items() if now < until}

    def look_at(self, statement: Statement) -> None:
        """A statement is about to run: it may change what others call."""
        if statement.causes or not _CHANGING.isdisjoint(part.verb.partition(" ")[0] for part in statement.parts):
            self.has_changed, self.catalogues_of = True, set()

    def borrow(self, login: Any, timeout: float, owner: Callable[[], Any] | None, wanted: Settings) -> tuple[Pool, Any]:
        """A backend for the next statement, and its pool."""
        readers = self.readers
        if self.side is Side.WRITER:
            return readers.writers, readers.writers.borrow(login, timeout, owner, wanted)
        return readers.borrow(self, login, timeout, owner, wanted)

    def hold(self, pool: Pool) -> None:
        """A backend of this pool is held from now on, whichever way it was found."""
        self.is_writing = self.tracks and pool is self.readers.writers
        if self.is_writing:
            self.generation = self.readers.generation

    def settle(self, backend: Any) -> None:
        """A transaction is over on the writer, where it may have written: note how far."""
        self.is_writing = False
        if self.only_reads and not backend.pinned:
            return
        was_unsure, self.is_unsure = self.is_unsure, True
        owner, backend.owner = backend.owner, None
        try:
            is_all = self.note(self.readers.engine.written(backend))
            self.is_unsure = was_unsure or not is_all  # last: an interrupt before leaves it unsure
        except Exception as error:
            logger.info("the writer did not say how far it is: %s", str(error))
        finally:
            backend.owner = owner

    def doubt(self) -> None:
        """A statement failed: with what it has committed before, no position came."""
        if self.is_writing and self.readers.engine.tells_writes:
            self.is_unsure = True

    def lose(self, backend: Any) -> None:
        """A database connection was lost in use."""
        if self.is_writing:
            self.is_writing, self.is_unsure = False, True
        if backend.endpoint is not None and self.side is not Side.WRITER:
            self.readers.rest(backend.endpoint)

    def note(self, position: Any) -> bool:
        """A position of its own that it has to find from now on, as of Reader.written. False where that is not all it
        has to find, and the writer is to be asked for its own: together they got too long, or the last one is of before
        a failover."""
        if position == "":
            return True
        known, is_lasting = self.position, not self.wrote_at or self.noted_in == self.generation
        self._find(position if known is None or position is None else self.readers.engine.joined(known, position))
        return is_lasting and (position is None or self.position is not None)

    def note_all(self, position: Any, generation: int) -> None:
        """The same with the position of all that the writer of this generation has written, as of Reader.position."""
        self.generation = generation
        self._find(position)
        self.is_unsure = False

    def _find(self, position: Any) -> None:
        self.position, self.wrote_at, self.has_all = position, time.monotonic(), 0
        self.noted_in = self.generation
