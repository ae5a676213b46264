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
    settings: dict[tuple[str, int | str | None], None] = field(default_factory=dict)  # an ordered set
    local_settings: dict[tuple[str, int | str | None], None] = field(default_factory=dict)
    holds: dict[tuple[str, str], None] = field(default_factory=dict)
    frees: dict[tuple[str, str], None] = field(default_factory=dict)
    awaits_question: bool = False

    def takes_along(self, name: str, parameter: int | str | None = None) -> None:
        self.settings[name, parameter] = None

    def pin(self, reason: str, what: str) -> None:
        self.causes[reason, what] = None
