"""Whose LAST_INSERT_ID() a database connection tells. Pure.

The server keeps one value per connection, and the insert id of an OK packet is not it: an INSERT that names its id
reports that one and leaves the value as it was, and so may INSERT IGNORE and ON DUPLICATE KEY UPDATE.
"""

from __future__ import annotations

from typing import Any


class InsertId:
    """What LAST_INSERT_ID() is for one session."""

    __slots__ = ("is_doubtful", "value")

    def __init__(self) -> None:
        self.value: int | None = 0
        """None where only the connection can tell that this session inserted on last."""
        self.is_doubtful = False
        """It was set to 0 for not being known, and then something was inserted: another 0 proves nothing."""


class InsertedIds:
    """The ids that were inserted on one connection since its last reset: by who did so last, and by all before."""

    __slots__ = ("high", "is_wild", "last", "low", "others_high", "others_low", "owner")

    def __init__(self) -> None:
        self.owner: Any = None
        self.last = self.low = self.high = 0
        self.others_low, self.others_high = 1, 0  # none
        self.is_wild = False
        """Something else than an INSERT may have set the value."""

    def add(self, owner: Any, insert_id: int) -> None:
        """`owner` ran an INSERT, and the server reported that id; 0 for none."""
        if self.owner is not owner:
            if self.high:
                self.others_low = min(self.low, self.others_low) if self.others_high else self.low
                self.others_high = max(self.high, self.others_high)
            self.owner, self.low, self.high = owner, insert_id, insert_id
        if insert_id:
            self.low = min(self.low or insert_id, insert_id)
            self.high = max(self.high, insert_id)
        self.last = insert_id

    def are_proof(self, owner: Any, value: int) -> bool:
        """Whether LAST_INSERT_ID() is certainly this owner's: it is what was reported last, and nobody else's."""
        is_others = self.others_low <= value <= self.others_high
        return self.owner is owner and value == self.last != 0 and not is_others and not self.is_wild
