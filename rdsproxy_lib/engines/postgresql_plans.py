"""What psycopg knows of the statements it has prepared on a backend: its own manager, in fewer steps."""

from __future__ import annotations

from typing import Any

from psycopg._preparing import Key, Prepare, PrepareManager

_PREPARED = Prepare.YES


class Plans(PrepareManager):
    """The driver asks three times around each statement; most are prepared already, and answered by the first."""

    def get(self, query: Any, prepare: bool | None = None) -> tuple[Prepare, bytes]:
        if self._names and prepare is not False and self.prepare_threshold is not None:
            key = query.query, query.types
            if (name := self._names.get(key)) is not None:
                self._names.move_to_end(key)
                return _PREPARED, name
        return super().get(query, prepare)

    def maybe_add_to_cache(self, query: Any, prep: Prepare, name: bytes) -> Key | None:
        return None if prep is _PREPARED else super().maybe_add_to_cache(query, prep, name)

    def maintain_gen(self, conn: Any) -> Any:
        return super().maintain_gen(conn) if self._to_flush else ()
