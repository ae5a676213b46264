"""The seam between this library and a database engine with its driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol, TypeVar

from .. import errors
from ..backend import Backend, OpenFailed, Refusal
from ..commits import CommitEngine
from ..credentials import Credential, Credentials, TryLater, Who
from ..named_host import NameOpener
from ..readers import Reader
from ..routines import RoutineBody
from ..session import Tx
from ..settings import Settings
from ..sql import Cause, Dialect, Reason, Routine, Statement

Made = TypeVar("Made")

SOURCES_SHARE, LEAST_SHARE = 0.5, 0.25
"""Of the time for a login: how much a source may take, and what has to be left for an attempt."""
AT_ONCE = 0.05
"""Seconds after which a login is tried again that could not be tried for want of time."""


class Login:
    """Who logs in to which database, with everything that shapes a backend: the key of the pool.

    Compared by identity; a Proxy keeps one per distinct set of parameters.
    """

    __slots__ = (
        "__weakref__",
        "audited",
        "check_lock",
        "dbname",
        "dialect",
        "ghost",
        "is_checked",
        "parameters",
        "reads_sequences",
        "token_table",
        "user",
    )

    def __init__(self, user: str | None, dbname: str | None, parameters: Mapping[str, Any], dialect: Dialect) -> None:
        self.user = user
        self.dbname = dbname
        self.parameters = parameters
        self.dialect = dialect
        self.check_lock = threading.Lock()
        """One thread at a time makes the ghost."""
        self.is_checked = False
        """Whether the first connect() has asked the server, with or without an answer."""
        self.reads_sequences = False
        """Whether any session asked currval() or lastval()."""
        self.token_table = ""
        """With ``resolve_commits``: the table's full name, as SQL."""
        self.audited: set[str] = set()
        """With ``audit=True``: the names of all settings that its sessions named."""
        self.ghost: Any = None
        """What answers the driver's questions while no backend is held; made by the first connect()."""

    @property
    def key(self) -> frozenset[tuple[str, Any]]:
        """Equal for logins whose backends are interchangeable."""
        return frozenset((name, hashable(value)) for name, value in self.parameters.items())

    def __repr__(self) -> str:
        return f"<Login user={self.user!r} dbname={self.dbname!r}>"


def check_keywords(given: Credentials, located_by: Collection[str], keywords: Mapping[str, Any]) -> None:
    """Raise ConfigurationError where a session asks for another server than that which the credentials are for."""
    if given.sources and (moved := sorted(located_by & keywords.keys())):
        raise errors.ConfigurationError(f"connect({moved[0]}=…): the credentials are for the server of the proxy")


def who_of(login: Login, parameters: Mapping[str, Any], default_port: str) -> Who:
    """Who logs in where, by the driver's own arguments."""
    port = str(parameters.get("port") or default_port)
    return Who(login.user, str(parameters.get("host") or ""), int(port) if port.isdigit() else 0)


def logged_in(
    given: Credentials,
    who: Who,
    timeout: float,
    attempt: Callable[[Credential | None, float], Made],
    error: Callable[[type[errors.Error], str], Exception],
) -> Made:
    """What `attempt` makes of the first of the credentials that the server accepts; of None where none were given.

    It is given the seconds that are left of `timeout` as well. Raises OpenFailed: the attempt's own, and with the
    driver's twin of a CredentialsError inside where there was nothing to try.
    """
    deadline = time.monotonic() + timeout
    refused: OpenFailed | None = None
    try:
        source = given.pick(who.user)
        if source is None:
            return attempt(None, timeout)
        with closing(source.offers(who, timeout * SOURCES_SHARE)) as offers:
            for credential in offers:
                left = deadline - time.monotonic()
                if left < timeout * LEAST_SHARE:  # too little to judge the host by
                    raise TryLater(AT_ONCE, errors.CredentialsError("the credentials took too long to come"))
                try:
                    made = attempt(credential, left)
                except OpenFailed as failed:
                    if not failed.is_wrong_password:
                        raise
                    refused = failed
                else:
                    source.accepted(who, credential)
                    return made
    except errors.ConfigurationError as failure:
        raise OpenFailed(failure, Refusal.PERMANENT) from None
    except errors.CredentialsError as failure:
        twin = error(errors.CredentialsError, str(failure))
        twin.__cause__ = failure.__cause__
        raise OpenFailed(twin, Refusal.PERMANENT) from None
    except TryLater as later:
        was_refused = refused is not None
        why = refused.error if refused is not None else error(errors.CredentialsError, str(later.why))
        raise OpenFailed(why, Refusal.LATER, is_answer=was_refused, retry_after=later.seconds) from None
    assert refused is not None, "a source offers something, or raises"
    raise refused


def patiently(connect: Callable[[float], Made], timeout: float) -> Made:
    """What `connect(seconds)` makes, for those who do not wait in a pool while a password is being changed.

    `timeout` is for all attempts together. Raises OpenFailed as it does.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect(max(0.001, deadline - time.monotonic()))
        except OpenFailed as failed:
            if failed.refusal is not Refusal.LATER or time.monotonic() + failed.retry_after >= deadline:
                raise
            time.sleep(failed.retry_after)


def hashable(value: Any) -> Any:
    """What stands for a value in a key: equal for equal ones, as far as they can be compared."""
    if isinstance(value, Mapping):
        return frozenset((key, hashable(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(hashable, value))
    return value if isinstance(value, Hashable) else id(value)


class Engine(NameOpener, Reader, CommitEngine, Protocol):
    """Everything the library asks of a server and its driver.

    Methods that talk to the server raise the driver's errors. None is called with a lock of ours held.
    """

    name: str
    undoes_settings: bool
    """Whether ROLLBACK takes back what the transaction has set."""
    session_keywords: frozenset[str]
    """Connect arguments that shape the Python side: the client connection's, not part of what a login is."""
    session_defaults: dict[str, Any]
    """Those of them that the options of the proxy give."""

    def login(self, user: str | None, dbname: str | None, keywords: Mapping[str, Any]) -> Login:
        """The pool's key for these connect arguments. Raises what the driver raises for arguments it does not know."""

    def check(self, login: Any) -> None:
        """Raise the driver's own error for option values it would refuse before looking for the server. No I/O."""

    def haunt(self, backend: Any) -> bool:
        """Make the ghost of this backend's login: it keeps the answers. True where the backend gave its wire for it."""

    def tx(self, backend: Any) -> Tx:
        """The state of the transaction, as the protocol has it. No I/O."""

    def is_encrypted(self, backend: Any) -> bool:
        """Whether the wire is TLS. No I/O."""

    def rollback(self, backend: Any) -> None:
        """End an open transaction."""

    def reset(self, backend: Any) -> None:
        """Bring the session on the server back to what it was after login, by asking for it and checking the answer."""

    def hide_diagnostics(self, client: Any, backend: Any) -> None:
        """Before a statement that may ask anything: what other sessions left to be asked is not to be found."""

    def touched_by(self, statement: Statement, parameters: Any) -> tuple[Collection[str], Sequence[Cause]]:
        """The names of the settings that a statement may change, ``*`` for all; and what pins it, seen with its values.

        `parameters` are those of the driver's `execute()`.
        """

    def learn(self, client: Any, backend: Any, names: Collection[str]) -> Settings:
        """What the session of `client` has set, now that no transaction is open, and so what is in force on `backend`.

        `names` are the settings that may have changed since it was borrowed. One round trip. Raises Immovable where one
        of them cannot be set on another backend.
        """

    def apply(self, backend: Any, wanted: Settings) -> bool:
        """Give a backend just borrowed the settings its session wants. One round trip, and none without a difference.

        False where it turned out to be dead, or cannot be brought there. Raises what the server says to a value.
        """

    def ended(self, client: Any, backend: Any, reasons: Collection[Reason]) -> Collection[Reason]:
        """Which of these pins (session.REVIEWED) have lost their reason. At most one round trip."""

    def left_over(self, backend: Any, names: Collection[str]) -> Sequence[str]:
        """For an audit: what is on the server's session beyond the backend's label, by kind and name, never by value.

        `names` are settings to ask for where the server cannot list those that are set.
        """

    def mind_sequences(self, client: Any, statement: Statement, backend: Any) -> None:
        """Before a statement that moves a sequence or asks for its last value: no session ever hears another's.

        `client` has `login owner moved_on insert_id`. Raises DiagnosticsLost where the answer would not be certain.
        """

    def judged_sequence_error(self, client: Any, error: BaseException) -> Exception | None:
        """What to raise instead of the server's error for such a question: DiagnosticsLost where it would be false."""

    def routine_bodies(self, backend: Any, names: Collection[Routine]) -> list[RoutineBody] | None:
        """All routines of these names, those of every schema where a name has none. One round trip.

        None where nothing can be asked just now; an open transaction goes on as if nothing had been.
        """

    def absorb_cancel(self, backend: Any) -> None:
        """After a cancel request: take in its effect, so that it cannot hit the statement of the next borrower."""

    def is_fatal(self, error: BaseException) -> bool:
        """Whether the server ended the connection with this error."""

    def says_read_only(self, error: BaseException) -> bool:
        """Whether a server may have refused a statement because it takes no writes; there are other causes."""

    def says_cancelled(self, error: BaseException) -> bool:
        """Whether a statement was cancelled, by a request or a limit of time."""

    def never_ran(self, error: BaseException) -> bool:
        """Whether the error proves that the server ran nothing of the statement."""

    def closed_error(self, message: str, *, is_expired: bool = False) -> Exception:
        """The driver's own error for the use of a connection that is closed, maybe by `idle_client_timeout`."""

    def max_connections(self, backend: Any) -> int:
        """How many connections the server gives to ordinary users. One round trip."""


__all__ = ["Backend", "Engine", "Login"]
