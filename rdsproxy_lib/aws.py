"""What is needed of boto3: sessions, clients, and signatures. Loaded with the first source that needs it.

botocore logs at DEBUG what it signs and what it is answered: tokens, session tokens and secrets. While this library
calls it, that thread's records of botocore are dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from .errors import CredentialsError
from .secret import Secret, hidden

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 2.0, 4.0, 2
"""Limits of one call to a service: the default ones, a minute each, are for batch jobs."""
THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")
"""Codes of a service that is asked too often."""
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException")
"""Codes for AWS credentials that it does not take."""


class _Quiet(logging.Filter):
    """Lets nothing through of a thread that is `quietly()`."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.here, "is_quiet", False)


_quiet = _Quiet()


@contextmanager
def quietly() -> Iterator[None]:
    """Within it, this thread writes nothing to the loggers of botocore and of what it stands on."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith(("botocore", "boto3", "urllib3")) and isinstance(logger, logging.Logger):
            logger.addFilter(_quiet)  # once, however often it is added
    was_quiet = getattr(_quiet.here, "is_quiet", False)
    _quiet.here.is_quiet = True
    try:
        yield
    finally:
        _quiet.here.is_quiet = was_quiet


def session_of(session: Any, profile: str | None, region: str | None) -> Any:
    """The boto3.Session that was given, or a new one. Raises CredentialsError where there is no such profile."""
    if session is not None:
        return session
    try:
        with quietly():
            return boto3.Session(profile_name=profile, region_name=region)
    except BotoCoreError as error:
        raise CredentialsError(f"no session with AWS could be made: {error}") from None


class Identity:
    """The AWS credentials of a session, as they are now: those of a role are renewed before they expire."""

    def __init__(self, session: Any) -> None:
        """Raises CredentialsError where there are none, or half, ServiceError where whoever has them did not answer."""
        self._credentials = _had(session.get_credentials, "no AWS credentials")
        if self._credentials is None:
            raise CredentialsError(
                "no AWS credentials were found: no environment variables, profile, container or instance role"
            )

    def frozen(self) -> Any:
        """Access key, secret key and session token. Raises ServiceError where they could not be renewed."""
        found = _had(self._credentials.get_frozen_credentials, "the AWS credentials could not be renewed")
        return ReadOnlyCredentials(found.access_key, hidden(found.secret_key), hidden(found.token))

    def ends_within(self, seconds: float) -> bool:
        """Whether they expire in that time. Those that say nothing of it do not."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(refresh_in=seconds))


def presigned(frozen: Any, service: str, region: str, url: str, query: Mapping[str, str], seconds: int) -> Secret:
    """The URL signed (SigV4) for so many seconds, without a call to anybody."""
    with quietly():
        request = AWSRequest("GET", url, params=query)
        SigV4QueryAuth(frozen, service, region, expires=seconds).add_auth(request)
        return Secret(request.prepare().url)


class ServiceError(Exception):
    """A service did not answer, or refused."""

    def __init__(self, message: str, *, is_lasting: bool = False, is_unidentified: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting
        """Whether it will do so again: no such thing, or not allowed."""
        self.is_unidentified = is_unidentified
        """Whether its AWS credentials were refused, or it has none: a new client may find others."""


def call(method: Callable[..., Any], **parameters: Any) -> Any:
    """The answer of a service. Raises ServiceError, which has no context: what led to it quotes the request."""
    try:
        with quietly():
            return method(**parameters)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code")
        is_unidentified = code in EXPIRED
        is_lasting = 400 <= status < 500 and code not in THROTTLED and not is_unidentified
        failure = ServiceError(_first_line(error), is_lasting=is_lasting, is_unidentified=is_unidentified)
    except NoCredentialsError as error:  # the client found none when it was made, and looks for them no more
        failure = ServiceError(str(error), is_lasting=True, is_unidentified=True)
    except BotoCoreError as error:
        failure = ServiceError(f"{type(error).__name__}: {error}")
    raise failure


def _had(find: Callable[[], Any], trouble: str) -> Any:
    """What a provider of AWS credentials has: a service, a process of the user's.

    Raises ServiceError, or CredentialsError where it has but half of them; without context, as that of `call`.
    """
    failure: Exception
    try:
        with quietly():
            return find()
    except PartialCredentialsError as error:
        failure = CredentialsError(f"{trouble}: {error}")
    except Exception as error:
        failure = ServiceError(f"{trouble}: {type(error).__name__}: {_first_line(error)}")
    raise failure


def _first_line(error: Exception) -> str:
    """What a service says. Below it may stand the request as it should have been signed, with the session token."""
    return str(error).partition("\n")[0]


def client_of(session: Any, service: str, region: str | None, endpoint_url: str | None) -> Any:
    """A client of a service. Raises CredentialsError where its address or region cannot be known, or there are
    but half of the AWS credentials; ServiceError where whoever has them did not answer.
    """
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    try:
        with quietly():
            return session.client(service, region_name=region, endpoint_url=endpoint_url, config=config)
    except (NoRegionError, PartialCredentialsError, ValueError) as error:
        raise CredentialsError(f"no client of {service} could be made: {error}") from None
    except BotoCoreError as error:
        raise ServiceError(f"no client of {service} could be made: {type(error).__name__}: {error}") from None
