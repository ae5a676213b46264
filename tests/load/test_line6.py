"""Importing the library is cheap and starts nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

LOOK = """
import sys, threading
before = threading.enumerate()
import rdsproxy_lib
heavy = {"psycopg", "psycopg_binary", "pymysql", "boto3", "botocore", "wrapt", "ssl", "asyncio"} & set(sys.modules)
assert not heavy, heavy
assert threading.enumerate() == before
proxy = rdsproxy_lib.Proxy.__name__
"""


def run(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - started


def test_importing_loads_no_driver_and_starts_no_thread():
    """Neither driver nor boto3 are loaded before they are used."""
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_importing_takes_under_forty_milliseconds():
    """The median of 20 runs, each next to one of `pass`."""
    pairs = [(run("pass"), run("import rdsproxy_lib")) for _ in range(20)]
    assert statistics.median(ours - bare for bare, ours in pairs) < 0.040
