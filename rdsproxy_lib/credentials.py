"""Where the user name and password of a database connection come from, and what a refused login does to them.

A source offers credentials for one login, one after the other: who asks for the next says by it that the server refused
the last. Most have but one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import ConfigurationError, CredentialsError
from .secret import Secret, hidden

PASSWORDS = ("password", "passwd")
"""The drivers' arguments that are one."""
CLONE = "_clone"
"""What the name of the second of two users ends in who are rotated by turns, as AWS' functions make it."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who wants to log in, and where: the name dialled, and the port."""

    user: str | None
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Credential:
    """What is sent to the server."""

    user: str
    password: str = field(repr=False)
    version: str = ""
    """Which of a secret's; empty for others."""
    dbname: str = ""
    """The database of a session that names none; empty where that is the server's affair."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "password", Secret(self.password))

    def account(self, user: str | None = None) -> str:
        """Its user, or another name for him: those of a secret are two by turns, and count as the first."""
        user = user or self.user
        return user.removesuffix(CLONE) if self.version else user


def checked(credential: Credential, who: Who) -> Credential:
    """The credential. Raises CredentialsError where it is not that of the user who is to log in."""
    if credential.account() != credential.account(who.user):
        raise CredentialsError(
            f"the credentials are of the database user {credential.user!r}, and {who.user!r} is to log in; for several"
            " users give a mapping of user to source"
        )
    return credential


class TryLater(Exception):
    """Raised by a source that has nothing to offer just now, and may have in so many seconds."""

    def __init__(self, seconds: float, why: BaseException) -> None:
        super().__init__(f"in {seconds:.2f} s: {why}")
        self.seconds = seconds
        self.why = why
        """The server's refusal, or what the source could not do."""


class Source:
    """What every source of credentials is to an engine. As it stands: one that keeps nothing.

    A copy is the source itself, so that nothing is asked for twice; a pickled one is another, with the same arguments.
    """

    needs_verified_tls = False
    """Whether what it offers may go to nobody but the server that it is for."""
    implies_tls = False
    """Whether database connections are ``TLS("verify-identity")`` where nothing else is said."""
    knows_user = True
    """Whether it says who logs in, and has not to be told."""
    knows_server = False
    """Whether `server()` may say where to log in."""
    secret_id: str
    """The name of the secret, where it knows the server."""

    def __copy__(self) -> Source:
        return self

    def __deepcopy__(self, memo: Any) -> Source:
        return self

    def check(self, hosts: Collection[str]) -> None:
        """Raise ConfigurationError where it can have nothing for one of these hosts. No I/O."""

    def server(self, timeout: float) -> Mapping[str, str]:
        """engine, host, port and dbname, as far as it knows them. Raises CredentialsError, TryLater."""
        raise NotImplementedError

    def prepare(self, timeout: float) -> None:
        """Have ready what the first login will need, as far as it comes within `timeout` seconds. Raises nothing."""

    def offers(self, who: Who, timeout: float) -> Generator[Credential, None, None]:
        """What to log in with, waiting `timeout` seconds at most; then the next where that was refused, and so on.

        Has to be closed. Raises CredentialsError where there is nothing to be had, TryLater where there may be.
        """
        raise NotImplementedError

    def accepted(self, who: Who, credential: Credential) -> None:
        """The server let it in."""

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads of the parent, and sockets are its own."""


def _not_texts(given: object) -> str:
    """What is wrong with what should be (user, password), without its values; empty where nothing is.

    `str()` of anything would do for the drivers, and the server refuse it as a wrong password.
    """
    parts = given if isinstance(given, tuple | list) else (given,)
    kinds = [
        "str" if isinstance(each, str) else "bytes" if isinstance(each, bytes) else type(each).__name__
        for each in parts
    ]
    if kinds == ["str", "str"]:
        return ""
    return f"two texts, not ({', '.join(kinds)}): decode bytes; None may be a variable that is not set"


@dataclass(frozen=True, init=False)
class Static(Source):
    """A fixed user name and password. Raises ConfigurationError where one is no text."""

    user: str
    password: str = field(repr=False)

    def __init__(self, user: str, password: str) -> None:
        if wrong := _not_texts((user, password)):
            del user, password  # of this frame, which goes with the error
            raise ConfigurationError(f"Static(user, password) takes {wrong}")
        object.__setattr__(self, "user", user)
        object.__setattr__(self, "password", hidden(password))

    def offers(self, who: Who, timeout: float) -> Generator[Credential, None, None]:
        yield checked(Credential(self.user, self.password), who)


class Asked(Source):
    """A callable of the user's, asked for (user, password) before each login. Who logs in is its affair."""

    def __init__(self, ask: Callable[[], tuple[str, str]]) -> None:
        self._ask = ask

    def offers(self, who: Who, timeout: float) -> Generator[Credential, None, None]:
        try:
            answer = hidden(self._ask())
        except Exception as error:
            raise CredentialsError(
                f"the credentials source raised {type(error).__name__}; no connection was tried"
            ) from error
        if wrong := _not_texts(answer):
            raise CredentialsError(f"the credentials source must return (user, password), {wrong}")
        user, password = answer
        yield Credential(str(user), password)


CredentialsOption: TypeAlias = (
    "Source | Callable[[], tuple[str, str]] | Mapping[str, Source | Callable[[], tuple[str, str]]] | None"
)
"""What `credentials=` takes."""


def source_of(given: Any) -> Source:
    """One source, as it was given. Raises ConfigurationError for what is none, without its value."""
    if isinstance(given, Source):
        return given
    if callable(given) and not isinstance(given, type):
        return Asked(given)
    kind = "text" if isinstance(given, str) else type(given).__name__
    raise ConfigurationError(
        "credentials must be a Static, an IamToken, a SecretsManager, a callable, or a mapping of user to one of"
        f" them, not {kind}"
    )


class Credentials:
    """The sources of one Proxy: one for all its users, or one for each."""

    def __init__(self, given: CredentialsOption) -> None:
        """Raises ConfigurationError for what is no source."""
        self._by_user: dict[str, Source] | None = None
        self.one: Source | None = None
        """The one for all users."""
        if isinstance(given, Mapping):
            if not all(isinstance(user, str) for user in given):
                raise ConfigurationError(
                    "credentials: a mapping is of database users, which are text, to their sources"
                )
            self._by_user = {user: source_of(source) for user, source in given.items()}
        elif given is not None:
            self.one = source_of(given)

    @property
    def locator(self) -> Source | None:
        """The one that may say where the server is."""
        return self.one if self.one is not None and self.one.knows_server else None

    @property
    def sources(self) -> list[Source]:
        """All of them; none where the driver finds the password in its own places."""
        if self._by_user is not None:
            return list(self._by_user.values())
        return [] if self.one is None else [self.one]

    @property
    def need_verified_tls(self) -> bool:
        """Whether any of them does."""
        return any(source.needs_verified_tls for source in self.sources)

    @property
    def imply_tls(self) -> bool:
        """Whether any of them does."""
        return any(source.implies_tls for source in self.sources)

    @property
    def know_user(self) -> bool:
        """Whether there is one for all, which says who logs in."""
        return self.one is not None and self.one.knows_user

    @property
    def user(self) -> str | None:
        """Who logs in where nobody says who; None where only the source, or the driver, knows."""
        return self.one.user if isinstance(self.one, Static) else None

    def check_alone(self, *given: Mapping[str, Any]) -> None:
        """Raise ConfigurationError where a driver's arguments have a password beside them. It would never be sent."""
        doubled = [name for arguments in given for name in PASSWORDS if arguments.get(name)]
        if doubled and self.sources:
            raise ConfigurationError(
                f"{doubled[0]}, in the URL or as an argument, would never be sent beside credentials=: drop one of them"
            )

    def pick(self, user: str | None) -> Source | None:
        """The source for a database user. Raises ConfigurationError where a mapping has none for it."""
        if self._by_user is None:
            return self.one
        if user not in self._by_user:
            raise ConfigurationError(f"credentials has no source for the database user {user!r}")
        return self._by_user[user]
