"""Every way to log in, in every TLS mode, on every kind of server, does what matrix.json says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdsproxy_lib import TLS, ConfigurationError, IamToken, Static, trust
from rdsproxy_lib.config import TLS_MODES, VERIFYING_MODES
from tests.login.place import fails, has_tls, saw_no_secret, saw_nothing, source_of, tls_of
from tests.login.secrets_manager import Service
from tests.servers import APP_PASSWORD, APP_USER

pytestmark = pytest.mark.usefixtures("aws", "names")

MATRIX = json.loads((Path(__file__).parent / "matrix.json").read_text())
LOGGED_IN = {"tls": True, "plain": False}
"""The outcomes that are no errors, and whether the channel is encrypted."""


def rows() -> list[Any]:
    """Each row of the matrix with the server that it is for."""
    found = []
    for kinds, (head, *lines) in MATRIX["on"].items():
        for kind in kinds.split(" and "):
            for credentials, mode, *outcomes in lines:
                for certificate, outcome in zip(head[2:], outcomes, strict=True):
                    name = "-".join((kind, credentials, mode, certificate))
                    row = (kind, credentials, mode, certificate, outcome)
                    found.append(pytest.param(*row, id=name, marks=pytest.mark.server(kind)))
    return found


def source(name: str, service: Callable[[], Service]) -> Any:
    """What is given as credentials."""
    if name == "iam":
        return IamToken()
    if name == "static":
        return Static(APP_USER, APP_PASSWORD)
    return source_of(service(), "login/matrix")


def is_named(error: BaseException, outcome: str, engine: str) -> None:
    """The error is that of the matrix, and tells no secret."""
    expected = MATRIX["errors"][outcome]
    text = expected["text"] if isinstance(expected["text"], str) else expected["text"][engine]
    assert expected["class"] in {each.__name__ for each in type(error).__mro__}
    assert re.search(text, str(error))
    assert APP_PASSWORD not in str(error)
    assert "X-Amz-Signature" not in str(error)


# -- the matrix


def test_the_matrix_is_complete():
    """Both engines × three ways to log in × five modes × five servers."""
    (_, *lines) = MATRIX["on"]["postgresql-15 and mariadb-10.11"]
    assert {(line[0], line[1]) for line in lines} == {
        (credentials, mode) for credentials in ("static", "secret", "iam") for mode in TLS_MODES
    }
    assert sum(len(line) - 2 for line in lines) == 75


@pytest.mark.parametrize(
    ("place", "credentials", "mode", "certificate", "outcome"), rows(), indirect=["place"], scope="package"
)
def test_a_row(request, place, authority, credentials, mode, certificate, outcome):
    """It logs in as the matrix says, or raises what it says."""
    if place.kind == "mysql-9.7":
        place.forget_passwords()
    given = source(credentials, lambda: request.getfixturevalue("service"))
    served = None if certificate == "plaintext" else certificate
    check = "iam" if credentials == "iam" else "native"
    with place.front(check=check, authority=authority, certificate=served) as front:
        if outcome == "no token":
            with pytest.raises(ConfigurationError) as wrong:
                place.proxy(front, credentials=given, tls=TLS(mode))
            is_named(wrong.value, outcome, place.engine)
            assert front.accepted == 0
            return
        with place.proxy(front, credentials=given, tls=tls_of(mode, authority)) as proxy:
            if outcome not in LOGGED_IN:
                is_named(fails(proxy, Exception), outcome, place.engine)
                saw_no_secret(front)
                if mode in VERIFYING_MODES:
                    saw_nothing(front)
                return
            assert has_tls(proxy, front) is LOGGED_IN[outcome]
            if not LOGGED_IN[outcome]:
                saw_no_secret(front)


# -- what is implied


@pytest.mark.parametrize("credentials", ["secret", "iam"])
@pytest.mark.parametrize("certificate", ["good", "wrong-name", "expired", "self-signed", "plaintext"])
def test_a_token_and_a_secret_imply_verify_identity(request, place, authority, monkeypatch, credentials, certificate):
    """Without `tls=` the outcome is that of its row with verify-identity."""
    monkeypatch.setattr(trust, "RDS_BUNDLES", (str(authority.ca_file),))
    lines = MATRIX["on"]["postgresql-15 and mariadb-10.11"]
    (line,) = [line for line in lines if line[:2] == [credentials, "verify-identity"]]
    outcome = dict(zip(lines[0], line, strict=True))[certificate]
    given = source(credentials, lambda: request.getfixturevalue("service"))
    served = None if certificate == "plaintext" else certificate
    check = "iam" if credentials == "iam" else "native"
    with (
        place.front(check=check, authority=authority, certificate=served) as front,
        place.proxy(front, credentials=given) as proxy,
    ):
        if outcome == "tls":
            assert has_tls(proxy, front)
        else:
            is_named(fails(proxy, place.error), outcome, place.engine)
            saw_nothing(front)


@pytest.mark.parametrize("credentials", ["secret", "iam"])
def test_without_a_bundle_the_systems_authorities_count(request, place, authority, monkeypatch, credentials):
    """They do not know ours: the server is not trusted, and told nothing."""
    monkeypatch.setattr(trust, "RDS_BUNDLES", ())
    given = source(credentials, lambda: request.getfixturevalue("service"))
    with place.front(authority=authority) as front, place.proxy(front, credentials=given) as proxy:
        fails(proxy, place.error, "certificate verify failed: unable to get local issuer certificate")
        saw_nothing(front)


def test_a_part_of_the_drivers_arguments_does_not_undo_it(place, authority, service):
    """Who names only an authority for a secret did not say that the server need not be verified."""
    ca = {"sslrootcert" if place.is_postgresql else "ssl_ca": str(authority.ca_file)}
    _is_not_undone(place, authority, source("secret", lambda: service), ca)


@pytest.mark.parametrize(
    "place", [pytest.param("mariadb-10.11", marks=pytest.mark.server("mariadb-10.11"))], indirect=True
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"ssl_disabled": False},
        {"ssl_disabled": None},
        {"ssl": None},
        {"ssl": {"cipher": "ALL"}},
        {"ssl_verify_cert": None},
    ],
    ids=repr,
)
def test_what_the_driver_takes_for_unsaid_does_not_undo_it(place, authority, service, arguments):
    """PyMySQL's own default, spelled out: who says "not disabled" did not say that anybody will do."""
    _is_not_undone(place, authority, source("secret", lambda: service), arguments)


def _is_not_undone(place, authority, given: Any, arguments: dict[str, Any]) -> None:
    for certificate in (None, "wrong-name", "self-signed"):
        with place.front(authority=authority, certificate=certificate) as front:
            with pytest.raises((ConfigurationError, place.error)):
                place.proxy(front, credentials=given, driver_options=arguments).connect().close()
            saw_nothing(front)
