"""The eye sees a secret wherever one could be: else what it does not find would show nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from rdsproxy_lib.secret import Secret
from tests.login.eye import PACKAGE, Eye
from tests.servers import APP_USER


def test_the_eye_sees(service, aws):
    """A secret in each place where one could be is found: else the tests above would show nothing."""
    eye = Eye()
    secret = eye.plant("control")
    log = logging.getLogger("rdsproxy_lib.control")
    frames: dict[str, Any] = {}
    ours = "def fail(held):\n    raise ValueError('something else')\ndef shorten(held):\n    return fail(held)"
    exec(compile(ours, str(PACKAGE / "control.py"), "exec"), frames)

    def raises(cause: Exception | None = None, context: Exception | None = None, held: Any = None) -> None:
        try:
            raise context or ValueError
        except Exception:
            raise frames["fail"](held) or ValueError from cause

    def expect(where: str) -> None:
        assert eye.found, where
        assert all("control | " in each for each in eye.found)
        assert any(where in each for each in eye.found), eye.found
        eye.found.clear()

    with eye.open():
        log.debug("a password: %s", secret)
        expect("log rdsproxy_lib")
        log.debug("no password", extra={"more": [secret]})
        expect("log rdsproxy_lib")
        log.debug("in the argument's traceback: %s", of(lambda: frames["fail"](secret)))
        expect("control.py:2 fail held")
        log.debug("no password", exc_info=of(lambda: frames["shorten"]({"password": secret})))
        expect("control.py:4 shorten held")
        with eye.fails("cause", ValueError):
            raise ValueError from LookupError(secret)
        expect("LookupError")
        with eye.fails("context", ValueError):
            try:
                frames["fail"]({"password": secret})
            except ValueError:
                raise ValueError from None
        expect("fail held")
        log.debug("nothing: %s", Secret(secret))
        expect("log rdsproxy_lib")  # a Secret is a text for who asks for it
        log.debug("nothing: %r", of(lambda: frames["fail"]([Secret(secret), {"password": Secret(secret)}])))
        assert not eye.found
        warnings.warn(secret, stacklevel=1)
        with eye.shut():
            log.debug(secret)
        assert not eye.found
    expect("warning")
    with subprocess.Popen(["setpriv", "--pdeathsig=KILL", "sleep", "60", secret[:0] or "0"]) as process:
        process.kill()
    eye.show("object", {"password": secret})
    expect("object")
    thread = threading.Thread(target=time.sleep, args=(0.2,), name=secret)
    thread.start()
    eye.look_around()
    thread.join()
    expect("threads")
    with subprocess.Popen([sys.executable, "-c", "input()", secret], stdin=subprocess.PIPE) as process:
        eye.look_around()
        process.communicate(b"\n")
    expect("processes")
    arn = service.create("planted/control", username=APP_USER, password=secret)
    with eye.open():
        service.manager.get_secret_value(SecretId=arn)
    expect("log botocore")


def of(call: Callable[[], object]) -> BaseException:
    """What it raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value
