"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rdsproxy_lib
from rdsproxy_lib.cli import main


def test_version(capsys):
    """`--version` prints the version of the package."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"rdsproxy_lib {rdsproxy_lib.__version__}\n"


def test_the_status_of_a_command_is_that_of_the_program():
    """`python -m rdsproxy_lib explain` ends with 1 for a statement that pins and 0 for one that does not."""
    for statement, status in (("listen jobs", 1), ("select 1", 0)):
        done = subprocess.run([sys.executable, "-m", "rdsproxy_lib", "explain", statement], capture_output=True)
        assert done.returncode == status


def test_without_a_command_it_shows_the_usage(capsys):
    """No command is a mistake: status 2, and the usage."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "usage: python -m rdsproxy_lib" in capsys.readouterr().err


def test_explain_loads_no_driver():
    """Only the demo needs a database driver."""
    program = (
        "import sys; from rdsproxy_lib.cli import main; main(['explain', 'select 1']);"
        "sys.exit('psycopg' in sys.modules or 'rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0
