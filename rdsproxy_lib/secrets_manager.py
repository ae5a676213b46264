"""Secrets Manager: the user name and password of a secret, and the time in which it is rotated.

While the password of a user is rotated, the server takes the new one before the secret is said to have it: it stands
under AWSPENDING then, and becomes AWSCURRENT a moment, or a minute, later. Stages and steps:
https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html. With alternating users
each version has another user name, and the one before stays good.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from . import aws
from .credentials import Credential, Source, TryLater, Who, checked
from .errors import ConfigurationError, CredentialsError
from .flights import Flights
from .secret import Secret, hidden

logger = logging.getLogger(__name__)

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"
FIRST_PAUSE, LAST_PAUSE = 0.2, 2.0
"""Seconds between two attempts of a login that was refused, or of a question to the service; doubled each time."""
COURTESY = 1.0
"""Seconds for which one login with a secret has a host to itself. After it one more is let in beside it."""
SERVICE_SECONDS = 0.5
"""How long a login waits for the service before it is put off: it keeps others waiting."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a secret."""

    number: str
    user: str
    password: Secret
    server: Mapping[str, str]
    """engine, host, port and dbname, as far as it has them."""


class _Pause:
    """The time between two attempts: longer after each, and not the same in all processes."""

    def __init__(self) -> None:
        self._until, self._seconds = 0.0, FIRST_PAUSE

    @property
    def left(self) -> float:
        """The seconds of it that are left; 0 where there is none."""
        return max(0.0, self._until - time.monotonic())

    def begin(self) -> float:
        """Begin another one; its seconds."""
        seconds = self._seconds * random.uniform(0.8, 1.2)
        self._until, self._seconds = time.monotonic() + seconds, min(LAST_PAUSE, self._seconds * 2)
        return seconds

    def end(self) -> None:
        """What was tried went well."""
        self._until, self._seconds = 0.0, FIRST_PAUSE


class _Door:
    """What one host said to the versions of a secret. Logins go through it one at a time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.turn_of: object = None
        self.turn_since = 0.0
        self.refused: dict[str, float] = {}
        """When each of these versions was, the last time (monotonic seconds)."""
        self.is_refusing = False
        """Whether the last one was."""
        self.asks_since: float | None = None
        """Answers of the service to questions from then on count; None where the next login begins to ask."""
        self.pause = _Pause()
        """For which nobody is let in, after every version was refused."""

    def take_turn(self, who: object, deadline: float) -> bool:
        """Wait for one's turn; False where every version is refused, or it did not come.

        One that lasts is shared, so that none can be lost.
        """
        with self._lock:
            while True:
                now = time.monotonic()
                if self.turn_of is None or now - self.turn_since >= COURTESY:
                    self.turn_of, self.turn_since = who, now
                    return True
                if self.is_refusing or now >= deadline:
                    return False
                self._changed.wait(min(deadline, self.turn_since + COURTESY) - now)

    def end_turn(self, who: object) -> None:
        with self._lock:
            if self.turn_of is who:
                self.turn_of = None
                self._changed.notify()

    def refuse(self, version: str) -> None:
        with self._lock:
            self.refused = {**self.refused, version: time.monotonic()}
            self.is_refusing = True
            self._changed.notify_all()

    def open(self, version: str) -> None:
        """That one was let in."""
        self.refused = {number: at for number, at in self.refused.items() if number != version}
        self.is_refusing = False
        self.asks_since = None
        self.pause.end()


class _Vault:
    """What is known of one secret, and the questions to the service that are under way."""

    def __init__(self) -> None:
        self.lock, self.client_lock = threading.Lock(), threading.Lock()
        self.client: Any = None
        self.versions: dict[str, Version] = {}
        """By stage."""
        self.asked_at: dict[str, float] = {}
        """When the question began that brought what is known of a stage (monotonic seconds)."""
        self.flights: Flights[None] = Flights("rdsproxy-secret")
        """The questions to the service, by stage."""
        self.trouble: CredentialsError | None = None
        """Why the last question had no answer."""
        self.is_lasting = False
        """Whether another one will have none either."""
        self.pause = _Pause()
        """For which the service is not asked, after it had no answer."""
        self.doors: dict[tuple[str, int], _Door] = {}
        self.was_accepted = False
        """Whether any server ever took it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it is unpickled, nothing is known yet."""
        return _Vault, ()


@dataclass(frozen=True)
class SecretsManager(Source):
    """Log in with a secret: `Proxy(url, credentials=SecretsManager("arn:…"))`.

    `secret_id`: name or ARN; the region is `region`, else the ARN's, else the session's. `refresh`: seconds after
    which a login that finds the secret that old has it asked for again, and does not wait for the answer. `profile` or
    `session` (a boto3.Session): who asks; by default boto3's usual credentials. `username_key`, `password_key`: their
    names in the secret's JSON. Where the Proxy is given no host, the secret's host, port, dbname and engine are taken.
    Implies ``TLS("verify-identity")``. Raises ConfigurationError for a wrong value.
    """

    secret_id: str
    region: str | None = None
    endpoint_url: str | None = None
    refresh: float = 3600.0
    profile: str | None = None
    session: Any = None
    username_key: str = "username"
    password_key: str = "password"
    _vault: _Vault = field(default_factory=_Vault, init=False, repr=False, compare=False)

    implies_tls = True
    knows_server = True

    def __post_init__(self) -> None:
        if not isinstance(self.secret_id, str) or not self.secret_id.strip():
            raise ConfigurationError("secret_id must be the name or the ARN of a secret")
        if isinstance(self.refresh, bool) or not isinstance(self.refresh, int | float) or not self.refresh > 0:
            raise ConfigurationError(f"refresh must be a number of seconds above 0, not {self.refresh!r}")
        if self.profile is not None and self.session is not None:
            raise ConfigurationError("give SecretsManager either profile or session, not both")

    def server(self, timeout: float) -> Mapping[str, str]:
        return self._current(time.monotonic() + timeout).server

    def prepare(self, timeout: float) -> None:
        with suppress(CredentialsError, TryLater):  # it is said when somebody logs in
            self._current(time.monotonic() + timeout)

    def offers(self, who: Who, timeout: float) -> Generator[Credential, None, None]:
        """The version that is good as far as is known; refused, what the service says now, also of a pending one."""
        deadline = time.monotonic() + timeout
        with self._turn(who, deadline) as door:
            was_any = False
            for version in self._versions(door, deadline):
                dbname = version.server.get("dbname", "")
                credential = checked(Credential(version.user, version.password, version.number, dbname), who)
                was_any = True
                yield credential
                logger.info("%s refused version %s of the secret %s", who.host, version.number, self.secret_id)
                door.refuse(version.number)
            is_unanswered = not was_any or door.asks_since is not None
            if self._vault.was_accepted or is_unanswered:  # else nothing speaks for a rotation
                raise self._refused(who, door.pause.begin())

    def accepted(self, who: Who, credential: Credential) -> None:
        """Others may log in there at once."""
        self._vault.was_accepted = True
        self._door(who).open(credential.version)

    def after_fork(self) -> None:
        """What is known goes along; locks, connections and who is refused where do not."""
        vault = self._vault
        vault.lock, vault.client_lock = threading.Lock(), threading.Lock()
        vault.client = None  # its connections are the parent's
        vault.flights.after_fork()
        vault.doors.clear()

    # -- one login at a time

    def _door(self, who: Who) -> _Door:
        with self._vault.lock:
            return self._vault.doors.setdefault((who.host, who.port), _Door())

    @contextmanager
    def _turn(self, who: Who, deadline: float) -> Iterator[_Door]:
        """Have this host for oneself, with this secret, so that a password that is over is refused but once."""
        door, me = self._door(who), object()
        try:
            if not door.take_turn(me, deadline):
                raise self._refused(who, FIRST_PAUSE)
            if left := door.pause.left:
                raise self._refused(who, left)
            yield door
        finally:
            door.end_turn(me)

    def _versions(self, door: _Door, deadline: float) -> Iterator[Version]:
        """What may be tried now: who goes on has seen the last one refused."""
        self._current(min(deadline, time.monotonic() + SERVICE_SECONDS))
        known = self._known()
        untried = next((each for each in known if each.number not in door.refused), None)
        if untried is not None:  # of a pending one that means that it was let in
            yield untried
        if not self._is_answered(door, deadline):
            return
        known = self._known()
        door.refused = {each.number: door.refused[each.number] for each in known if each.number in door.refused}
        new = [each for each in known if each.number not in door.refused]
        yield from new
        if untried is None and not new and known:
            yield min(known, key=lambda each: door.refused.get(each.number, 0.0))

    def _is_answered(self, door: _Door, deadline: float) -> bool:
        """Whether the service has said what there is now. It is asked; a late answer is for the next login."""
        since = door.asks_since = door.asks_since or time.monotonic()
        patience = min(deadline, time.monotonic() + SERVICE_SECONDS)
        are_known = [self._fetch(stage, patience, since) for stage in (CURRENT, PENDING)]
        if all(are_known):
            door.asks_since = None
        elif self._vault.trouble is None:
            return False
        else:  # what is known has to do; the next login asks for both, that the one in trouble does not hide the other
            door.asks_since = time.monotonic()
        return True

    def _refused(self, who: Who, seconds: float) -> TryLater:
        """To be raised while every version is refused."""
        why = f"{who.host} refuses every version of the secret {self.secret_id}; it may be in rotation"
        return TryLater(seconds, CredentialsError(why))

    # -- the service

    def _current(self, deadline: float) -> Version:
        """The version that counts, as far as is known. Raises CredentialsError, TryLater."""
        vault = self._vault
        version = vault.versions.get(CURRENT)
        if version is None:
            self._fetch(CURRENT, deadline, since=0.0)
            version = vault.versions.get(CURRENT)
        elif time.monotonic() - vault.asked_at[CURRENT] >= self.refresh:
            self._ask(CURRENT, time.monotonic())  # for those who come later
        if version is not None:
            return version
        if vault.trouble is not None and vault.is_lasting:
            raise CredentialsError(str(vault.trouble))
        why = vault.trouble or CredentialsError(f"the secret {self.secret_id} was asked for, and has not come yet")
        raise TryLater(max(FIRST_PAUSE, vault.pause.left), why)

    def _known(self) -> list[Version]:
        """The version that counts, and the one that a rotation is about to put in its place."""
        versions = self._vault.versions
        found = {each.number: each for each in map(versions.get, (CURRENT, PENDING)) if each is not None}
        return list(found.values())  # the stage of one that became the current one may stay there

    def _fetch(self, stage: str, deadline: float, since: float) -> bool:
        """Whether the service answered a question of `since` or later before the deadline. It is asked."""
        while not self._has_answered(stage, since):  # a question that was under way already does not count
            flight = self._ask(stage, since)
            if flight is None or not wait((flight,), max(0.0, deadline - time.monotonic())).done:
                return False
        return True

    def _has_answered(self, stage: str, since: float) -> bool:
        return self._vault.asked_at.get(stage, -1.0) >= since

    def _ask(self, stage: str, since: float) -> Future[None] | None:
        """Have the service asked, unless it has answered a question of `since` by then; None while it is in trouble."""
        if self._vault.pause.left:
            return None
        return self._vault.flights.start(stage, partial(self._take_answer, stage, since))

    def _take_answer(self, stage: str, since: float) -> None:
        if self._has_answered(stage, since):  # a moment ago
            return
        vault, began = self._vault, time.monotonic()
        version, trouble, is_lasting = None, None, False
        try:
            version = self._get(stage)
        except aws.ServiceError as error:
            trouble, is_lasting = (
                CredentialsError(f"the secret {self.secret_id} could not be read: {error}"),
                error.is_lasting,
            )
        except CredentialsError as error:
            trouble, is_lasting = error, True
        except Exception as error:
            logger.exception("asking for the secret %s failed", self.secret_id)
            trouble = CredentialsError(f"asking for the secret {self.secret_id} failed: {type(error).__name__}")
        with vault.lock:
            if trouble is None:
                vault.asked_at[stage] = began
                others = {name: each for name, each in vault.versions.items() if name != stage}
                vault.versions = others if version is None else {**others, stage: version}
                vault.pause.end()
            else:
                vault.pause.begin()
                logger.warning("%s; what is known of it is used on", trouble)
            vault.trouble, vault.is_lasting = trouble, is_lasting

    def _get(self, stage: str) -> Version | None:
        """Ask the service; None for a stage with nothing to log in with. Raises ServiceError, CredentialsError."""
        vault = self._vault
        with vault.client_lock:  # one question for each stage may be here
            client = vault.client
            if client is None:
                session = aws.session_of(self.session, self.profile, self._region())
                client = vault.client = aws.client_of(session, "secretsmanager", self._region(), self.endpoint_url)
        try:
            answer = hidden(aws.call(client.get_secret_value, SecretId=self.secret_id, VersionStage=stage))
        except aws.ServiceError as error:
            if error.is_unidentified:
                vault.client = None  # the next one may find other AWS credentials
            elif stage == PENDING and error.is_lasting:  # there is none, or a policy allows the current one alone
                logger.debug("the secret %s has no %s to be tried: %s", self.secret_id, PENDING, error)
                return None
            raise
        version = self._parsed(answer)
        if version is None and stage == CURRENT:  # what a failed rotation left is no pending one
            raise CredentialsError(
                f"the secret {self.secret_id} is not JSON with the texts {self.username_key!r} and"
                f" {self.password_key!r}"
            )
        return version

    def _region(self) -> str | None:
        """Of the parameter, or of the ARN."""
        parts = self.secret_id.split(":")
        return self.region or (parts[3] if len(parts) > 5 and parts[0] == "arn" and parts[3] else None)

    def _parsed(self, answer: Mapping[str, Any]) -> Version | None:
        """None for what is no secret of a database. No error has any of it: it would go with the error's traceback."""
        try:
            content = hidden(json.loads(answer["SecretString"]))
            user, password = content[self.username_key], content[self.password_key]
            if not isinstance(user, str) or not isinstance(password, str):
                return None
        except (KeyError, TypeError, ValueError):
            return None
        server = {name: str(content[name]) for name in ("engine", "host", "port", "dbname") if content.get(name)}
        return Version(str(answer["VersionId"]), str(user), Secret(password), MappingProxyType(server))
