"""What RDS does with a token that comes as a password: compute its signature again, and look at what was signed.

Written from AWS' description of signature version 4, without the code that the client signs with.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import parse_qsl, quote

LONGEST = 900


@dataclass(frozen=True, slots=True)
class AccessKey:
    """The secret of an access key, and the session token it is good with, if it is a temporary one."""

    secret: str
    session_token: str | None = None


def fault(
    token: str,
    *,
    user: str,
    endpoints: Collection[str],
    region: str,
    keys: Mapping[str, AccessKey],
    lifetime: float,
    now: float,
) -> str:
    """Why a token is refused; empty when it is good.

    endpoints: "name:port" of every name that leads here. keys: by the id of the access key. lifetime: seconds that a
    token is good for at most, whatever it says. now: of time.time().
    """
    endpoint, _, query = token.partition("/?")
    if not query:
        return "it is no token"
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, separator="&")
    except ValueError:
        return "it is no token"
    said = dict(pairs)
    if len(said) != len(pairs):
        return "it says something twice"
    try:
        key_id, day, *scope = said["X-Amz-Credential"].split("/")
        signed_at = datetime.strptime(said["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
        expires = int(said["X-Amz-Expires"])
        signature = said.pop("X-Amz-Signature")
    except (KeyError, ValueError) as error:
        return f"it lacks something: {error}"
    key = keys.get(key_id)
    problems = {
        "it does not ask to connect": said.get("Action") != "connect",
        f"it is for the user {said.get('DBUser')}": said.get("DBUser") != user,
        f"it is for {endpoint}": endpoint not in endpoints,
        f"it is for {'/'.join(scope)}": scope != [region, "rds-db", "aws4_request"],
        "it was signed another day": not said["X-Amz-Date"].startswith(day),
        "another algorithm signed it": said.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256",
        "more than the host is signed": said.get("X-Amz-SignedHeaders") != "host",
        "it is from the future": signed_at > now,
        f"it lives for {expires} s": not 0 < expires <= LONGEST,
        "it has expired": now > signed_at + min(expires, lifetime),
        f"there is no key {key_id}": key is None,
        "the session token is another": key is not None and said.get("X-Amz-Security-Token") != key.session_token,
    }
    for problem, holds in problems.items():
        if holds:
            return problem
    assert key is not None
    if not hmac.compare_digest(signature, _signature(endpoint, said, key.secret, [day, *scope])):
        return "the signature is wrong"
    return ""


def _signature(endpoint: str, said: Mapping[str, str], secret: str, scope: list[str]) -> str:
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(said.items()))
    request = f"GET\n/\n{query}\nhost:{endpoint}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{said['X-Amz-Date']}\n{'/'.join(scope)}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (*scope, text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
