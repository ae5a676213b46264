"""What tests of logging in share: a CA, AWS credentials of no account, AWS itself as far as moto has it, servers, their
names, and the stage with the eye that looks for planted secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rdsproxy_lib import registry
from tests.cluster.aws import Names
from tests.login.authority import Authority
from tests.login.eye import Eye
from tests.login.front import KEY_ID, NAME, REGION, SECRET_KEY
from tests.login.place import KINDS, Place
from tests.login.secrets_manager import Service
from tests.login.stage import Stage, parts
from tests.servers import HOST

AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "*",
}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA of this run; its good certificates are for this machine, and for instances of AWS' names."""
    domain = NAME.partition(".")[2]
    names = [
        HOST,
        "127.0.0.2",
        "127.0.0.3",
        "localhost",
        f"*.{domain}",
        f"*.cluster-{domain}",
        f"*.cluster-ro-{domain}",
    ]
    return Authority(tmp_path_factory.mktemp("authority"), names)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The test's AWS credentials, in the environment; none of the machine's."""
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture(scope="session")
def _running_service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def service(_running_service: Service, aws: pytest.MonkeyPatch) -> Service:
    """AWS, as far as moto has it: started once, with no calls counted yet. Secrets of earlier tests are still there."""
    _running_service.calls.clear()
    return _running_service


@pytest.fixture(scope="package")
def _places() -> Iterator[Callable[[str], Place]]:
    started: dict[str, Place] = {}
    with ExitStack() as stack:

        def find(kind: str) -> Place:
            if kind not in started:
                started[kind] = stack.enter_context(Place(kind))
            return started[kind]

        yield find


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.server(kind)) for kind in KINDS])
def place(request: pytest.FixtureRequest, _places: Callable[[str], Place]) -> Place:
    """A server of each engine, started when first asked for and shared by all tests of this directory."""
    return _places(request.param)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """The resolver of this process: the name of the test's instance leads to this machine, AWS' others nowhere."""
    names = Names(monkeypatch)
    names.table[NAME] = [HOST]
    return names


@pytest.fixture
def eye() -> Eye:
    """Has seen nothing yet."""
    return Eye()


@pytest.fixture
def stage(place: Place, eye: Eye, authority: Authority, monkeypatch: Any) -> Iterator[Stage]:
    """Open to the eye; at the end nothing was seen, in the shared Proxies' keys neither."""
    monkeypatch.setattr(registry, "_proxies", {})
    monkeypatch.setattr(registry, "_defaults", {})
    stage = Stage(place, eye, authority)
    with eye.open():
        yield stage
        eye.show("keys of shared proxies", list(registry._proxies))
        for key in registry._proxies:
            eye.look("keys of shared proxies", "".join(map(str, parts(key))))
        eye.look_around()
        stage.end_shared()
    stage.close()
    assert not eye.found, "\n".join(sorted(eye.found))
