"""What the rules of an engine found in one statement; reasons by name. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Finding:
    """Filled by `judge(tokens)` of an engine's rules; the fields are those of `sql.Part`."""

    verb: str = ""
    causes: dict[tuple[str, str], None] = field(default_factory=dict)  # an ordered set of (reason, what)
    routines: dict[str, tuple[str, str]] = field(default_factory=dict)  # what -> (schema, name), for UNKNOWN_ROUTINE
    reads_only: bool = False
    reads_sequence: bool = False
    moves_sequence: bool = False
    ends_transaction: bool = False
    sets_local: bool = False
    reads_diagnostics: bool = False
    lingers: bool = False
    commits: bool = False

    def pin(self, reason: str, what: str) -> None:
        self.causes[reason, what] = None
