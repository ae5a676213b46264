"""The fault matrix as a table, and a record of rows that are through, so that a long run can be taken up again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PLACE = "FAULT_MATRIX_DIR"
"""The variable that names the directory of the record. Without it there is none."""
ROOT = Path(__file__).resolve().parents[2]
TIMES = ("gap", "wait")
COUNTS = ("acknowledged", "unknown", "undone", "cut", "lost", "doubled", "wrong", "errors")


def of_these_sources() -> str:
    """What the record is good for: the library and its harness as they are."""
    digest = hashlib.sha256()
    places = [*ROOT.glob("rdsproxy_lib/**/*.py"), *ROOT.glob("tests/cluster/*.py"), *ROOT.glob("tests/*servers.py")]
    for place in sorted(places):
        digest.update(place.read_bytes())
    return digest.hexdigest()[:16]


class Record:
    """The rows that are through, a line of JSON each, in a file for the present sources."""

    def __init__(self) -> None:
        directory = os.environ.get(PLACE)
        self._place = Path(directory, f"{of_these_sources()}.jsonl") if directory else None
        self._rows: dict[str, dict[str, Any]] = {}
        if self._place is not None and self._place.exists():
            for line in self._place.read_text().splitlines():
                row = json.loads(line)
                self._rows[row["id"]] = row

    def find(self, identity: str) -> dict[str, Any] | None:
        """The row, where it is through."""
        return self._rows.get(identity)

    def add(self, row: dict[str, Any]) -> None:
        """Note it. One write, so that workers may do it side by side."""
        if self._place is not None:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with self._place.open("a") as file:
                file.write(json.dumps(row) + "\n")


def table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each fault, engine and monitor, its repeats taken together."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["fault"], row["engine"], "on" if row["monitor"] else "off"), []).append(row)
    if not groups:
        return []
    columns = ("runs", *COUNTS, *TIMES)
    line = "{:<18} {:<14} {:<7} {:>4} {:>12} {:>8} {:>7} {:>5} {:>5} {:>8} {:>6} {:>7} {:>8} {:>8}"
    lines = [line.format("fault", "engine", "monitor", *columns)]
    for key, group in sorted(groups.items(), key=lambda each: (each[0][1], each[0][0], each[0][2])):
        sums = [sum(row[name] for row in group) for name in COUNTS]
        most = [f"{max(row[name] for row in group) * 1000:.0f} ms" for name in TIMES]
        lines.append(line.format(*key, len(group), *sums, *most))
    return lines
