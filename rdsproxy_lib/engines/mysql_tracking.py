"""What a MySQL server says about its session: the OK packet and the tracker block in it. Pure.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html and, for what MariaDB does
otherwise, https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/ok_packet
"""

from __future__ import annotations

from ..sql import Dialect

IN_TRANSACTION = 0x0001
AUTOCOMMIT = 0x0002
MORE_RESULTS = 0x0008
NO_BACKSLASH_ESCAPES = 0x0200
STATE_CHANGED = 0x4000
"""Bits of the status word: the last says that a tracker block follows."""

_VARIABLE, _SCHEMA, _STATE, _GTIDS, _CHARACTERISTICS, _TRANSACTION = range(6)
_SPOKEN = ("character_set_client", "character_set_results")
_NOISE = b"\x0cstatement_id"
"""MySQL reports this variable with every statement, since all are asked for."""
_NOBODYS = frozenset({"last_gtid", "statement_id"})
"""Variables that no statement sets. MariaDB reports the first with every write to its binary log."""


class Malformed(ValueError):
    """A packet that is cut short, or whose lengths lie."""


class Tracked:
    """What is known of one session on the server, by its trackers."""

    __slots__ = (
        "changes",
        "characteristics",
        "charsets",
        "dialect",
        "gtid",
        "has_begun",
        "schema",
        "server",
        "write_mark",
    )

    def __init__(self, dialect: Dialect) -> None:
        self.changes: list[str] = []
        """What has changed since this was last emptied: variables by name, ``schema``, and ``state`` for anything."""
        self.begin(dialect)

    def begin(self, dialect: Dialect, schema: str = "") -> None:
        """A session begins, at login or after a reset."""
        self.dialect: Dialect | None = dialect
        """How the server reads a text now: changes with sql_mode. None where it has to be asked."""
        self.server = dialect.server
        self.characteristics = ""
        """SQL that would restart the open transaction elsewhere; outside of one, what was set for the next alone."""
        self.gtid = ""
        """Those of the transactions that wrote to the binary log, if the server tells, until somebody takes them; of
        MariaDB the last one's, which the others precede."""
        self.has_begun = False
        """Whether a transaction was begun by a statement, and nobody has taken note of it."""
        self.write_mark = b""
        """``W`` where the open transaction has written something that it can take back, at its last report."""
        self.schema = schema
        """The database in use, ``""`` for none."""
        self.charsets: dict[str, str] = {}
        """Of the variables that say in which character sets is spoken, those that were set."""
        self.changes.clear()

    def take_in(self, block: bytes) -> None:
        """Read one tracker block. Raises Malformed where its lengths do not add up."""
        at, end = 0, len(block)
        while at < end:
            kind = block[at]
            if kind == _TRANSACTION or (kind == _VARIABLE and block.startswith(_NOISE, at + 2)):
                if kind == _TRANSACTION:
                    self.write_mark = block[at + 7 : at + 8]
                at += block[at + 1] + 2 if at + 1 < end else 1  # of most statements
                continue
            data, at = read_string(block, at + 1)
            if kind == _VARIABLE:
                self._take_variables(data)
            elif kind == _CHARACTERISTICS:
                self.characteristics = read_string(data, 0)[0].decode("utf-8", "replace")
                self.has_begun = self.has_begun or "START TRANSACTION" in self.characteristics
            elif kind == _SCHEMA:
                self.changes.append("schema")
                self.schema = read_string(data, 0)[0].decode("utf-8", "replace")
            elif kind == _GTIDS:  # behind a byte that says how they are written
                self.gtid = extended(self.gtid, read_string(data, 1)[0].decode("ascii", "replace"))
            else:  # _STATE, and what a later server may add
                self.changes.append("state")
        if at != end:
            raise Malformed("a tracker that is cut short")

    def _take_variables(self, data: bytes) -> None:
        at = 0
        while at < len(data):  # MariaDB puts several into one record
            raw_name, at = read_string(data, at)
            raw_value, at = read_string(data, at)
            name, value = raw_name.decode("utf-8", "replace"), raw_value.decode("utf-8", "replace")
            if name in _NOBODYS:
                if name == "last_gtid":
                    self.gtid = value
                continue
            if name == "sql_mode":
                self.dialect = Dialect.mysql(value, self.server)
            elif name in _SPOKEN:
                self.charsets[name] = value
            self.changes.append(name)


def extended(known: str, gtid: str) -> str:
    """GTIDs of MySQL with one more, ``source:7`` or ``source:7-9``: from one source all between are meant as well.

    They came before it, too: so a session that writes a thousand times has one range of them.
    """
    source, _, numbers = gtid.rpartition(":")
    last_source, _, last_numbers = known.rpartition(",")[2].rpartition(":")
    if not known or not source or last_source != source:
        return f"{known},{gtid}" if known else gtid
    first = last_numbers.partition("-")[0]
    return f"{known[: len(known) - len(last_numbers)]}{first}-{numbers.rpartition('-')[2]}"


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer, and where it ends. Raises Malformed."""
    try:
        first = data[at]
        if first < 0xFB:
            return first, at + 1
        size = _SIZES[first]
    except (IndexError, KeyError):
        raise Malformed("a length that is none") from None
    end = at + 1 + size
    if end > len(data):
        raise Malformed("a length that is cut short")
    return int.from_bytes(data[at + 1 : end], "little"), end


_SIZES = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """A length-encoded string, and where it ends. Raises Malformed."""
    size, at = read_length(data, at)
    end = at + size
    if end > len(data):
        raise Malformed("a text that is cut short")
    return data[at:end], end


def read_ok(data: bytes) -> tuple[int, int, int, int, bytes, bytes]:
    """An OK packet: affected rows, insert id, status word, warning count, message, tracker block.

    `data` begins with the packet's header byte. Raises Malformed.
    """
    if data[1:3] == b"\0\0":  # of most: nothing affected, nothing inserted
        affected = insert_id = 0
        at = 3
    else:
        affected, at = read_length(data, 1)
        insert_id, at = read_length(data, at)
    if len(data) < at + 4:
        raise Malformed("an OK packet that is cut short")
    status = data[at] | data[at + 1] << 8
    warnings = data[at + 2] | data[at + 3] << 8
    at += 4
    message = block = b""
    if at < len(data):
        if data[at]:
            message, at = read_string(data, at)
        else:
            at += 1
        if status & STATE_CHANGED and at < len(data):
            if data.startswith(_NOISE, at + 3) and data[at] == data[at + 2] + 2 == len(data) - at - 1:
                return affected, insert_id, status, warnings, message, b""  # nothing but MySQL's noise
            block, at = read_string(data, at)
    return affected, insert_id, status, warnings, message, block
