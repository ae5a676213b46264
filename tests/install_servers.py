"""Install the servers that pip did not bring: PostgreSQL 15, MariaDB 10.11 and MySQL 9.7.

Run as `python -m tests.install_servers`. Does nothing when they are there. PostgreSQL and MariaDB are the
distribution's packages; no cluster and no service of theirs is created or started. MySQL comes from Debian unstable
and is unpacked into a cache directory, without touching the system and without root. Unstable moves on, so a missing
MySQL is no failure: the tests on it are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.mysql_servers import installation, is_open_to_servers, is_trusted, mysql_caches, unpacked_mysql
from tests.servers import VERSIONS, ServerMissing, binaries

# Read by Debian's postgresql-common when the server package is set up.
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/rdsproxy_lib_tests.conf")
# The `core` packages are the programs alone: no service, no data directory, no account.
MARIADB = ("mariadb-server-core", "mariadb-client-core")

_DOWNLOAD_TIMEOUT = 600.0


def missing() -> dict[str, tuple[str, ...]]:
    """Why which required servers are missing, and the Debian packages that bring them."""
    reasons: dict[str, tuple[str, ...]] = {}
    for version in VERSIONS:
        try:
            binaries(version)
        except ServerMissing as error:
            reasons[str(error)] = ("postgresql-15",) if version == "15" else ()
    try:
        installation("mariadb-10.11")
    except ServerMissing as error:
        reasons[str(error)] = MARIADB
    return reasons


def install(packages: list[str]) -> None:
    """Install Debian packages, PostgreSQL without a cluster of its own; needs root."""
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

    def run(*arguments: str) -> None:
        subprocess.run([*apt, *arguments], check=True, env=environment, stdin=subprocess.DEVNULL)

    NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        run("update")
        run("install", "--yes", "--no-install-recommends", *packages)
    finally:
        NO_CLUSTER.unlink()


# MySQL ------------------------------------------------------------------------------------------------------


def unpack_mysql() -> None:
    """Fetch MySQL 9.7 into a cache directory; raises ServerMissing, and leaves the reason there for the tests."""
    cache = _cache()
    note = cache / "absent"
    try:
        with tempfile.TemporaryDirectory(prefix="incoming-", dir=cache) as work:
            root, place = _fetch(Path(work)), cache / "mysql-9.7"
            try:
                root.rename(place)
            except OSError:
                if not place.is_dir():  # else a run beside this one was faster
                    raise
    except ServerMissing as error:
        note.write_text(f"{error}\n")
        raise
    note.unlink(missing_ok=True)


def _cache() -> Path:
    for cache in mysql_caches():
        with suppress(OSError):
            nearest = next(each for each in cache.parents if each.exists())
            if is_open_to_servers(nearest):
                cache.mkdir(parents=True, exist_ok=True)
                if is_trusted(cache) and os.access(cache, os.W_OK):
                    return cache
    raise ServerMissing("there is no directory to unpack it into")


def _fetch(work: Path) -> Path:
    """Download and unpack below `work`, with package lists and a package state of its own."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ServerMissing(f"there is no {program}, which fetches it from Debian unstable")
    work.chmod(0o755)  # apt downloads under another account
    for place in ("lists/partial", "cache/archives/partial", "root"):
        (work / place).mkdir(parents=True)
    (work / "status").touch()
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Default-Release": "",
        "APT::Update::Error-Mode": "any",
        "Debug::NoLocking": "1",
        "Acquire::Retries": "2",
    }
    options = [f"--option={name}={value}" for name, value in settings.items()]

    _update(work / "sources.list", options)
    listed = re.search(r"\| *(\S+) *\|", _output("apt-cache", *options, "madison", "mysql-server-core"))
    if listed is None or not listed[1].startswith("9.7."):
        raise ServerMissing(f"Debian unstable has MySQL {listed[1] if listed else 'no more'}, not 9.7")
    _output("apt-get", *options, "install", "--yes", "--no-install-recommends", "--download-only", "mysql-server-core")
    root = work / "root"
    for package in sorted((work / "cache" / "archives").glob("*.deb")):
        if "perl" not in package.name:  # for scripts of the package, which nobody runs here
            _output("dpkg-deb", "--extract", str(package), str(root))
    unpacked_mysql(root)
    return root


def _update(source: Path, options: list[str]) -> None:
    """Write the source of unstable that can be fetched, from the archives this machine uses already."""
    # Signed by Debian, or refused: another archive whose release has a plain name does no harm here.
    keyrings = sorted(Path("/usr/share/keyrings").glob("debian-archive-keyring.[gp]*"))
    targets = _output(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"
    )
    rows = [line.split() for line in targets.splitlines()]
    archives = dict.fromkeys(row[0] for row in rows if row[2:] == ["main"] and "-" not in row[1])
    if not keyrings or not archives:
        raise ServerMissing("this machine's apt knows no Debian archive")
    for archive in archives:
        source.write_text(f"deb [signed-by={keyrings[0]}] {archive} sid main\n")
        try:
            _output("apt-get", *options, "update")
            return
        except ServerMissing as error:
            reason = error
    raise ServerMissing(f"Debian unstable cannot be fetched: {reason}")


def _output(*command: str) -> str:
    """What a program says; raises ServerMissing with its complaint."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ServerMissing(f"{command[0]} took more than {_DOWNLOAD_TIMEOUT:g} s") from None
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("E: ")] or [done.stderr[-300:]]
        raise ServerMissing(f"{command[0]} ended with {done.returncode}: {complaints[0].removeprefix('E: ').strip()}")
    return done.stdout


def main() -> int:
    """Make every server available; returns the exit status."""
    os.umask(0o022)  # the servers' account reads what is unpacked
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        install([package for packages in missing().values() for package in packages])
    reasons = missing()
    for reason in reasons:
        print(reason, file=sys.stderr)
    try:
        installation("mysql-9.7")
    except ServerMissing:
        try:
            unpack_mysql()
        except ServerMissing as error:
            print(f"mysql-9.7 absent, the tests on it will be skipped: {error}", file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
