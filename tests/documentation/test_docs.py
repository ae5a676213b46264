"""The pages in docs/ and the README say what the code says."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
import typing
import warnings
from contextlib import closing
from pathlib import Path

import pytest
import trustme

import rdsproxy_lib
from rdsproxy_lib import aws, events, iam, readers, secrets_manager, trust
from rdsproxy_lib.config import OPTION_NAMES, TLS_MODES, Options
from rdsproxy_lib.engines import mysql_errors
from rdsproxy_lib.engines.postgresql import TWINS
from rdsproxy_lib.pool import DIAL_SECONDS
from rdsproxy_lib.proxy import FIRST_CHECK_SECONDS
from rdsproxy_lib.secrets_manager import SecretsManager
from rdsproxy_lib.session import TRANSITIONS, Event, Hold
from rdsproxy_lib.sql import Reason
from rdsproxy_lib.stats import PinnedSession, Stats

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"


def rows(page, heading=None):
    """The cells of every table row of a page, or of the part under one heading; code marks taken off."""
    text = (ROOT / "docs" / page).read_text()
    if heading is not None:
        text = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = (line.strip() for line in text.splitlines())
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_each_option_is_explained_with_its_default():
    """options.md has a row for every option, and the default in it is the real one."""
    table = {cells[0]: cells[1] for cells in rows("options.md")[2:]}
    assert set(table) == OPTION_NAMES
    defaults = Options()
    for name, default in table.items():
        assert ast.literal_eval(default) == getattr(defaults, name), name


def test_each_error_is_explained_with_its_class():
    """errors.md has a row for every error; SQLSTATE, code, the driver's class and `retry_safe` are the real ones."""
    table = {cells[0]: cells[1:5] for cells in rows("errors.md")[2:]}
    exported = {name: getattr(rdsproxy_lib, name) for name in rdsproxy_lib.__all__}
    errors = {
        name: kind
        for name, kind in exported.items()
        if isinstance(kind, type) and issubclass(kind, rdsproxy_lib.Error) and kind is not rdsproxy_lib.Error
    }
    assert set(table) == set(errors)
    for name, (driver_class, sqlstate, code, retry_safe) in table.items():
        assert retry_safe == ("yes" if errors[name].retry_safe else "no"), name
        if errors[name] in TWINS:
            twin = TWINS[errors[name]]
            names = {kind.__name__ for kind in twin.__mro__}
            assert set(re.findall(r"\w+", driver_class.replace("errors.", ""))) <= names, name
            assert (twin.sqlstate or "none") == sqlstate, name
            assert str(mysql_errors.TWINS[errors[name]][1]) == code, name


def test_each_event_is_explained_with_its_fields():
    """events.md has a row for every event, with its fields in their order, and both are there to import."""
    table = {cells[0]: re.findall(r"\w+", cells[2]) for cells in rows("events.md", "Events")[2:]}
    kinds = typing.get_args(events.Event)
    assert table == {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in kinds}
    assert all(getattr(rdsproxy_lib, name) in kinds for name in table)


def test_the_counters_named_are_there():
    """The fields of stats() that events.md names, and those of a pinned session."""
    table = {cells[0]: cells[1] for cells in rows("events.md", "Counters")[2:]}
    assert set(table) < {field.name for field in dataclasses.fields(Stats)}
    named = re.findall(r"`(\w+)`", table["pinned_sessions"])
    assert named == [field.name for field in dataclasses.fields(PinnedSession)]


def test_the_table_of_states_is_the_codes():
    """architecture.md draws `session.TRANSITIONS`, entry by entry."""
    header, _, *body = rows("architecture.md", "States of a session")
    assert header[1:] == [event.name for event in Event]
    drawn = {cells[0]: cells[1:] for cells in body}
    assert drawn == {
        hold.name: [after.name if after is not None else "–" for after in TRANSITIONS[hold]] for hold in Hold
    }


def test_the_modules_are_those_there_are():
    """architecture.md names every module of the package, and none that is gone."""
    package = ROOT / "rdsproxy_lib"
    there = {str(place.relative_to(package)) for place in package.rglob("*.py")}
    there = {name for name in there if not name.startswith("cli/") and name not in ("__main__.py",)}
    there -= {"engines/__init__.py", "faces/__init__.py"}
    named = {name for cells in rows("architecture.md", "Modules")[2:] for name in re.findall(r"[\w/]+\.py", cells[1])}
    assert named == there


def test_the_functions_named_are_there():
    """Every `Class.method` that architecture.md names is in the source."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    source = "".join(place.read_text() for place in (ROOT / "rdsproxy_lib").rglob("*.py"))
    named = set(re.findall(r"`(?:[a-z_]+\.)*([A-Z]\w+)\.(\w+)`", text))
    assert len(named) > 10
    for owner, name in named:
        assert f"class {owner}" in source, owner
        assert f"def {name}" in source, name


def test_each_reason_is_explained():
    """pinning.md and the README have a row for every reason to pin that there is."""
    names = {reason.name for reason in Reason}
    assert {cells[0] for cells in rows("pinning.md", "Reasons")[2:]} == names
    assert {cells[0] for cells in rows("pinning.md", "MySQL and MariaDB")[2:]} < names
    text = README.read_text()
    assert all(f"`{name}`" in text for name in names)


def test_the_tests_named_exist():
    """Every test that a page names is there."""
    tests = "".join(place.read_text() for place in (ROOT / "tests").rglob("test_*.py"))
    for page in (*PAGES, README):
        for name in re.findall(r"`(test_\w+)`", page.read_text()):
            assert f"def {name}(" in tests, f"{page.name}: {name}"


@pytest.mark.parametrize("page", [*PAGES, README], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Relative links point at files, and at headings, that exist."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        if heading:
            headings = re.findall(r"(?m)^#+ (.+)$", place.read_text())
            assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, target


def blocks(page):
    """The Python in a page."""
    return re.findall(r"(?ms)^```python\n(.*?)^```", page.read_text())


BLOCKS = blocks(README)
FOR_MYSQL = [block for block in BLOCKS if "pymysql" in block]
FOR_POSTGRESQL = [block for block in BLOCKS if block not in FOR_MYSQL]


@pytest.mark.parametrize("number", range(len(FOR_POSTGRESQL)))
def test_the_programs_of_the_readme_run(url, number):
    """Each Python block of the README is a program that runs as it stands."""
    _run(FOR_POSTGRESQL[number], url)


@pytest.mark.parametrize("number", range(len(FOR_MYSQL)))
def test_the_programs_for_mysql_run(mysql_url, number):
    """The same for those that are for MySQL and MariaDB."""
    _run(FOR_MYSQL[number], mysql_url)


def _run(program, url):
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program],
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_has_a_program_for_each_way_of_use():
    """Replacing connect(), a Proxy, SQLAlchemy and Lambda; about ten lines each."""
    imports = ("from rdsproxy_lib import psycopg", "from rdsproxy_lib import pymysql")
    for word in (*imports, "rdsproxy_lib.Proxy(", "create_engine", "def handler("):
        assert any(word in block for block in BLOCKS), word
    assert max(len(block.splitlines()) for block in BLOCKS) <= 16


@pytest.fixture
def rds_bundle(tmp_path, monkeypatch):
    """RDS' authorities are installed, as the pages have it."""
    bundle = tmp_path / "global-bundle.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    monkeypatch.setattr(trust, "RDS_BUNDLES", (str(bundle),))


@pytest.mark.usefixtures("rds_bundle")
def test_the_programs_of_the_pages_run(url):
    """The Python blocks in docs/ run, where a page is given a connection `conn` and its `proxy`."""
    _run_pages(url, is_for_mysql=False)


def test_the_programs_of_the_pages_for_mysql_run(mysql_url):
    """The same for those that are for MySQL and MariaDB."""
    _run_pages(mysql_url, is_for_mysql=True)


def _run_pages(url, *, is_for_mysql):
    programs = [block for page in PAGES for block in blocks(page) if ("pymysql" in block) == is_for_mysql]
    assert programs
    for program in programs:
        with rdsproxy_lib.Proxy(url) as proxy, closing(proxy.connect()) as conn, warnings.catch_warnings():
            exec(program, {"conn": conn, "proxy": proxy})


def test_what_the_pages_ask_on_the_command_line_pins():
    """Each `explain` that a page shows is a command that answers; all examples pin."""
    commands = {
        match
        for page in (*PAGES, README)
        for match in re.findall(r'python -m (rdsproxy_lib explain (?:--engine mysql )?)"([^"]+)"', page.read_text())
    }
    assert len(commands) > 2
    for command, text in commands:
        done = subprocess.run(
            [sys.executable, "-m", *command.split(), text], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (1, ""), text


def test_the_numbers_of_logging_in_are_the_codes():
    """credentials.md names lifetimes, pauses and limits of time as they are."""
    text = {cells[0]: cells[1] for cells in rows("credentials.md", "Numbers")}
    said = {name: [float(number) for number in re.findall(r"\d+(?:\.\d+)?", value)] for name, value in text.items()}
    replaced = [iam.MARGIN, iam.MARGIN + iam.JITTER, iam.SHORT - iam.JITTER, iam.SHORT]
    assert said["an IAM token is good for"] == [iam.LIFETIME, *replaced]
    assert said["a secret is asked for again, by a login that finds it"] == [SecretsManager("any").refresh]
    assert said["one call to Secrets Manager"] == [aws.CONNECT_SECONDS, aws.READ_SECONDS, aws.ATTEMPTS]
    pauses = said["between two calls that failed, or two logins of which every version was refused"]
    assert pauses[:2] == [secrets_manager.FIRST_PAUSE, secrets_manager.LAST_PAUSE]
    assert said["the first `connect()` waits for a secret, or a host"] == [FIRST_CHECK_SECONDS]
    assert said["one login attempt, with all its questions"] == [DIAL_SECONDS, readers.DIAL_SECONDS]


def test_modes_and_places_of_tls_are_the_codes():
    """tls.md has a row for each mode, and the places of RDS' bundle in the order in which they are looked at."""
    assert tuple(cells[0] for cells in rows("tls.md", "Modes")[2:]) == TLS_MODES
    text = _page("tls.md")
    assert tuple(re.findall(r"(?m)^\d\. `([^`]+)`", text)) == trust.RDS_BUNDLES
    assert trust.RDS_BUNDLE_URL in text


def test_the_policies_are_json():
    """Each policy of credentials.md can be pasted, and allows one action."""
    policies = [json.loads(block) for block in re.findall(r"(?ms)^```json\n(.*?)^```", _page("credentials.md"))]
    statements = [each for policy in policies for each in policy.get("Statement", [policy])]
    assert {each["Action"] for each in statements} == {
        "secretsmanager:GetSecretValue",
        "kms:Decrypt",
        "rds-db:connect",
        "sts:AssumeRole",
    }
    assert all("*" not in json.dumps(each) for each in statements)


def _page(name):
    return (ROOT / "docs" / name).read_text()
