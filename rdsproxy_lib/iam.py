"""IAM database authentication: a token in the place of a password.

A token is a signed URL, made on this machine, that names the host, the port and the user, and is good for 15 minutes:
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html. It counts at the login only.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Generator, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import aws
from .credentials import Credential, Source, TryLater, Who
from .endpoint_names import parsed
from .errors import ConfigurationError, CredentialsError
from .flights import Flights
from .secret import Secret

LIFETIME = 900
"""Seconds for which a token is good."""
MARGIN, JITTER = 120.0, 60.0
"""Seconds before its end at which it is replaced, and up to how many more, so that not all processes do it at once."""
SHORT = 300.0
"""Seconds for which a token is used whose AWS credentials end before it would: boto3 renews those 10 minutes before."""
GLANCE, PAUSE = 0.2, 1.0
"""Seconds for which a login waits for a new token while the old one is good still; and until one is tried again that
had none."""
LEAST = 5.0
"""Seconds that a token has to be good for still where no other one can be had."""


@dataclass(frozen=True, slots=True)
class _SignedFor:
    """What a token is signed for."""

    host: str
    port: int
    region: str


@dataclass(frozen=True, slots=True)
class _Token:
    text: Secret
    signed_at: float
    until: float
    """When it is to be replaced. Both by the wall clock, as the server judges it."""

    def is_good(self, now: float, refused: str | None) -> bool:
        """Whether it may be used, and is another one than that which was refused."""
        return self.text != refused and self.signed_at <= now < self.until


class _Tokens:
    """The tokens of one source, and the AWS credentials that they are signed with."""

    def __init__(self) -> None:
        self.flights: Flights[_Token] = Flights("rdsproxy-token")
        """Those that are being made; AWS may have to be asked for credentials first."""
        self.lock = threading.Lock()
        self.identity: aws.Identity | None = None
        self.kept: dict[tuple[_SignedFor, str], _Token] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it is unpickled, there are none yet."""
        return _Tokens, ()


@dataclass(frozen=True)
class IamToken(Source):
    """Log in with IAM tokens: `Proxy(url, credentials=IamToken())`.

    `region`: by default that of the endpoint's name. `profile` or `session` (a boto3.Session): whose AWS credentials
    sign; by default boto3's usual ones. `host`: the endpoint's own name where the host that is dialled has another (a
    CNAME, an address, a tunnel), with ``:port`` where that differs as well; or a mapping from the names dialled to
    such.
    Implies ``TLS("verify-identity")``. Raises ConfigurationError for a `host` that is no endpoint's name.
    """

    region: str | None = None
    profile: str | None = None
    session: Any = None
    host: str | Mapping[str, str] | tuple[tuple[str, str], ...] | None = None
    _tokens: _Tokens = field(default_factory=_Tokens, init=False, repr=False, compare=False)

    needs_verified_tls = True
    implies_tls = True
    knows_user = False

    def __post_init__(self) -> None:
        if self.profile is not None and self.session is not None:
            raise ConfigurationError("give IamToken either profile or session, not both")
        if isinstance(self.host, Mapping):
            object.__setattr__(self, "host", tuple(sorted(self.host.items())))  # so that it has a hash
        if isinstance(self.host, tuple):
            for _, name in self.host:
                self._signed_for(name, 0)
        elif self.host is not None:
            self._signed_for(str(self.host), 0)

    def check(self, hosts: Collection[str]) -> None:
        """Raise ConfigurationError for a host of which AWS' name is not known."""
        for host in hosts:
            self._target(host, 0)

    def offers(self, who: Who, timeout: float) -> Generator[Credential, None, None]:
        """A token for this host, port and user; refused, another one, of AWS credentials that are looked for anew.

        No other where both had been got just now.
        """
        if not who.user:
            raise CredentialsError("an IAM token names a database user: give one in the URL or as user=")
        place, deadline = self._target(who.host, who.port), time.monotonic() + timeout
        identity, kept = self._tokens.identity, self._tokens.kept.get((place, who.user))
        token = self._token(place, who.user, None, deadline)
        yield Credential(who.user, token)
        if identity is not None or (kept is not None and kept.text == token):
            fresh = self._token(place, who.user, token, deadline)
            if fresh != token:  # one of the same second is the same
                yield Credential(who.user, fresh)

    def after_fork(self) -> None:
        """Tokens go along."""
        self._tokens.flights.after_fork()
        self._tokens.lock = threading.Lock()
        self._tokens.identity = None  # it has locks of its own, and sockets

    def _token(self, place: _SignedFor, user: str, refused: Secret | None, deadline: float) -> Secret:
        """A token, another one than that which was refused. Raises CredentialsError, TryLater."""
        tokens = self._tokens
        key = place, user
        kept = tokens.kept.get(key)
        if kept is not None and kept.is_good(time.time(), refused):
            return kept.text
        flight = tokens.flights.start(key, partial(self._made, place, user, refused))
        is_of_use = kept is not None and kept.text != refused and time.time() < kept.signed_at + LIFETIME - LEAST
        old = kept if is_of_use else None
        patience = max(0.0, deadline - time.monotonic())
        try:
            return flight.result(patience if old is None else min(patience, GLANCE)).text
        except FutureTimeout:
            trouble = CredentialsError("the AWS credentials that sign IAM tokens have not come yet")
        except aws.ServiceError as error:
            trouble = CredentialsError(str(error))
        except CredentialsError as error:
            raise CredentialsError(str(error)) from None
        if old is not None:
            return old.text
        raise TryLater(PAUSE, trouble)

    def _made(self, place: _SignedFor, user: str, refused: Secret | None) -> _Token:
        tokens = self._tokens
        kept = tokens.kept.get((place, user))
        if kept is not None and kept.is_good(time.time(), refused):  # made a moment ago
            return kept
        with tokens.lock:  # of several users and hosts the first one asks
            if tokens.identity is None or refused is not None:  # others may be there by now
                tokens.identity = aws.Identity(aws.session_of(self.session, self.profile, None))
            identity = tokens.identity
        frozen = identity.frozen()
        now = time.time()
        period = LIFETIME - MARGIN if not identity.ends_within(LIFETIME) else SHORT
        url, query = f"https://{place.host}:{place.port}/", {"Action": "connect", "DBUser": user}
        text = Secret(aws.presigned(frozen, "rds-db", place.region, url, query, LIFETIME).removeprefix("https://"))
        token = tokens.kept[place, user] = _Token(text, now, now + period - random.uniform(0, JITTER))
        return token

    def _target(self, host: str, port: int) -> _SignedFor:
        own: str | None = None
        if isinstance(self.host, tuple):
            own = dict(self.host).get(host)
        elif isinstance(self.host, str) and not parsed(host).region:  # the hosts of a cluster have names that say it
            own = self.host
        return self._signed_for(own or host, port)

    def _signed_for(self, name: str, port: int) -> _SignedFor:
        host, _, own_port = name.partition(":")
        found = parsed(host)
        if not found.region or (own_port and not own_port.isdigit()):
            raise ConfigurationError(
                "an IAM token is signed for the name that AWS gave an instance, a cluster or a proxy, and"
                f" {name!r} is none (a CNAME, an address, a tunnel, a global database): say that one as"
                " IamToken(host=…)"
            )
        return _SignedFor(host.removesuffix(".").lower(), int(own_port or port), self.region or found.region)
