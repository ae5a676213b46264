"""Install the servers that pip did not bring: PostgreSQL 15, from the distribution.

Run as `python -m tests.install_servers`. Does nothing when they are there. The package's own cluster and
service are neither created nor started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import VERSIONS, ServerMissing, binaries

# Read by Debian's postgresql-common when the server package is set up.
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/rdsproxy_lib_tests.conf")


def missing() -> list[str]:
    """The versions without binaries on this machine, and why, one line each."""
    reasons = []
    for version in VERSIONS:
        try:
            binaries(version)
        except ServerMissing as error:
            reasons.append(str(error))
    return reasons


def install() -> None:
    """Install Debian's PostgreSQL 15 without a cluster of its own; needs root."""
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

    def run(*arguments: str) -> None:
        subprocess.run([*apt, *arguments], check=True, env=environment, stdin=subprocess.DEVNULL)

    NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        run("update")
        run("install", "--yes", "--no-install-recommends", "postgresql-15")
    finally:
        NO_CLUSTER.unlink()


def main() -> int:
    """Make every server available; returns the exit status."""
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        install()
    for reason in missing():
        print(reason, file=sys.stderr)
    return 1 if missing() else 0


if __name__ == "__main__":
    sys.exit(main())
