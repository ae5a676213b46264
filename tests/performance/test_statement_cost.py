"""What a statement costs, against the driver alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to a CPU here")
def test_a_statement_costs_little_more_than_the_drivers_own():
    """Autocommit `select 1`: at most 1.35 times, 1.5 with a new cursor, 1.15 in a transaction."""
    # A process of its own, since the benchmark binds itself to one CPU.
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
