"""A connection of PyMySQL that listens: the status word of every answer, and the server's session trackers.

The driver keeps neither for a SELECT. With CLIENT.DEPRECATE_EOF a result ends in an OK packet instead of an EOF
packet, which carries both, and is one packet less to read. Results are read here too, into the driver's own class:
in fewer steps, and with the descriptions of a table's columns taken apart once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pymysql.connections import MAX_PACKET_LEN, Connection, MySQLResult, err
from pymysql.constants import CLIENT, COMMAND, CR, ER
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from .descriptor import set_user_timeout
from .mysql_tracking import MORE_RESULTS, Malformed, Tracked, read_length, read_ok

LISTENING = CLIENT.SESSION_TRACK | CLIENT.DEPRECATE_EOF
"""Capabilities that are asked for: MySQL has both since 5.7.5, MariaDB since 10.2."""
KNOWN_COLUMNS = 500
"""How many results' descriptions are kept per login."""

_OK, _LOCAL_FILE, _NULL, _END_OF_ROWS, _ERROR = 0x00, 0xFB, 0xFB, 0xFE, 0xFF
_number = int.from_bytes
_QUERY = bytes((COMMAND.COM_QUERY,))
_SHORT_COUNT, _KEPT_HEAD = 250, 4096
"""The most columns whose number takes one byte, and the longest head that is compared before it is taken apart."""
_NO_DECODERS: dict[int, Any] = {-1: None}
_LONGEST_END = MAX_PACKET_LEN
"""A row may begin with the byte of an end, but then it is at least so long."""
_NOT_THE_ROWS_FAULT = (Malformed, IndexError, KeyError, AttributeError, AssertionError, struct.error)
_PARSERS = ("pymysql.connections", "pymysql.protocol", "rdsproxy_lib.")


class Head:
    """What comes before the rows of a result: the descriptions of its columns, and what the driver makes of them."""

    __slots__ = ("converters", "description", "fields", "key", "packets")

    def __init__(self, key: tuple[bytes, str, bool], result: MySQLResult) -> None:
        self.key = key
        self.fields: list[Any] = result.fields
        self.converters: list[Any] = result.converters
        self.description: tuple[Any, ...] = result.description
        self.packets: bytes | None = None
        """As they came, once they came twice in succession: they are likely to come again."""

    def came_again(self, payloads: list[bytes]) -> None:
        if self.packets is None and len(payloads) <= _SHORT_COUNT and len(self.key[0]) <= _KEPT_HEAD:
            payloads = [bytes((len(payloads),)), *payloads]
            self.packets = b"".join(
                len(payload).to_bytes(3, "little") + bytes((number & 0xFF,)) + payload
                for number, payload in enumerate(payloads, 1)
            )


class Columns:
    """The heads of results, by the bytes they came in. Only those of tables, which name no values."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[Any, Head] = {}

    def keep(self, head: Head) -> None:
        if all(field.org_name for field in head.fields):
            if len(self.known) >= KNOWN_COLUMNS:
                self.known.clear()
            self.known[head.key] = head


class Wire(Connection):
    """The driver's connection with its ears open. The face of a session is one too, on a borrowed socket."""

    __module__ = "pymysql.connections"

    charset: str
    collation: str | None
    _closed: bool
    _current_timeout: float | None
    _next_seq_id: int
    _result: Any
    _sock: Any
    use_unicode: bool
    _rdsproxy_tracked: Tracked
    _rdsproxy_decoders: dict[int, Any]
    _rdsproxy_columns: Columns
    _rdsproxy_is_in_step = False
    """Whether what was just raised came from a converter of values, with all of the answer read nevertheless."""
    _rdsproxy_last_head: Head | None = None
    """That of the last result, of a table or not."""
    _rdsproxy_warning_count = 0
    """Of the last answer that was no result."""
    _rdsproxy_own_decoders: dict[int, Any] | None = None
    """Those of a session that got or changed its own."""

    def _read_ok_packet(self) -> MysqlPacket:
        packet = self._read_packet()
        try:
            if not packet.is_ok_packet():
                raise Malformed("not the end of an answer")
            _, _, status, self._rdsproxy_warning_count, _, block = read_ok(packet._data)
            if block:
                self._rdsproxy_tracked.take_in(block)
        except _NOT_THE_ROWS_FAULT as error:
            self._rdsproxy_give_up(error)
        self.server_status: int = status
        return packet

    def _read_query_result(self, unbuffered: bool = False) -> int:
        self._result = None
        result = self._rdsproxy_stream() if unbuffered else Result(self)
        try:
            if unbuffered:
                result.init_unbuffered_query()
            else:
                result.read()
        except _NOT_THE_ROWS_FAULT as error:
            if self._rdsproxy_is_in_step:
                raise
            self._rdsproxy_fail(error)
        self._result = result
        affected: int = result.affected_rows
        return affected

    def _rdsproxy_stream(self) -> MySQLResult:
        return Result(self)

    def _rdsproxy_run_all(self, commands: Iterable[tuple[int, bytes]], *, at_once: bool) -> None:
        """Run several commands that answer without rows; `at_once`: in one round trip.

        Raises the first error of the server, when all answers are read.
        """
        commands = list(commands)
        first: err.MySQLError | None = None
        if at_once:
            packets = [struct.pack("<I", len(data) + 1) + bytes((number,)) + data for number, data in commands]
            self._write_bytes(b"".join(packets))
        for number, data in commands:
            if at_once:
                self._next_seq_id = 1
            else:
                self._execute_command(number, data)
            try:
                self._read_ok_packet()
            except err.MySQLError as error:
                if self._sock is None:
                    raise
                first = first or error
        if first is not None:
            raise first

    @contextmanager
    def _rdsproxy_whole(self) -> Iterator[None]:
        """Close the wire where an interrupt cuts a question of ours: the next one would get the rest of its answer."""
        try:
            yield
        except err.MySQLError:
            raise
        except BaseException:
            self._force_close()
            raise

    def _rdsproxy_row_of(self, text: str) -> tuple[list[FieldDescriptorPacket], tuple[bytes | None, ...]]:
        """Columns and values of the one row that a question brings, as they came."""
        kept = self._rdsproxy_own_decoders, self.use_unicode
        self._rdsproxy_own_decoders, self.use_unicode = _NO_DECODERS, False
        try:
            with self._rdsproxy_whole():
                self._execute_command(COMMAND.COM_QUERY, text)
                self._read_query_result()
        finally:
            self._rdsproxy_own_decoders, self.use_unicode = kept
        (row,) = self._result.rows
        return self._result.fields, row

    def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> Any:
        return packet_type(self._rdsproxy_payload(), self.encoding)

    def _rdsproxy_payload(self) -> bytes:
        """The next packet, without its header. Raises the server's error where it is one, as the driver does."""
        if self._current_timeout != self._read_timeout:
            self._sock.settimeout(self._read_timeout)
            self._current_timeout = self._read_timeout
        read = self._rfile.read
        whole = b""
        while True:
            try:
                header = read(4)
                number = _number(header, "little")
                length = number & MAX_PACKET_LEN
                data: bytes = read(length)
            except OSError as error:
                self._rdsproxy_lose(f" ({error})")
            if len(data) < length or len(header) < 4:
                self._rdsproxy_lose()
            number >>= 24
            if number != self._next_seq_id:
                if number == 0:  # MariaDB's farewell when it shuts down
                    self._rdsproxy_lose()
                self._force_close()
                raise err.InternalError(f"Packet sequence number wrong - got {number} expected {self._next_seq_id}")
            self._next_seq_id = (number + 1) & 0xFF
            if length < MAX_PACKET_LEN:
                break
            whole += data
        if whole:
            data = whole + data
        if length and data[0] == _ERROR:
            self._rdsproxy_raise(data)
        return data

    def _rdsproxy_takes(self, head: Head) -> bool:
        """Whether an answer begins with the very packets of the one before. They are read then."""
        packets, (_, encoding, use_unicode) = head.packets, head.key
        if packets is None or self._next_seq_id != 1 or self._rdsproxy_own_decoders is not None:
            return False
        if self.encoding != encoding or self.use_unicode != use_unicode:
            return False
        if self._current_timeout != self._read_timeout:
            self._sock.settimeout(self._read_timeout)
            self._current_timeout = self._read_timeout
        try:
            if not self._rfile.peek().startswith(packets):
                return False
        except OSError as error:
            self._rdsproxy_lose(f" ({error})")
        self._rfile.read(len(packets))
        self._next_seq_id = (len(head.fields) + 2) & 0xFF
        return True

    def _rdsproxy_send(self, text: bytes | bytearray) -> None:
        """Send a statement, as the driver does; where nothing is left to be read of the answer to the last one."""
        self._result = None
        size = len(text) + 1
        if size >= MAX_PACKET_LEN or self._sock is None:
            Connection._execute_command(self, COMMAND.COM_QUERY, text)
            return
        self._write_bytes(size.to_bytes(4, "little") + _QUERY + text)
        self._next_seq_id = 1

    def _rdsproxy_raise(self, data: bytes) -> NoReturn:
        """Raise the server's error, marked as its answer: nothing more of it is to come."""
        if self._result is not None:
            self._result.unbuffered_active = False
        try:
            err.raise_mysql_exception(data)
        except err.MySQLError as error:
            error._rdsproxy_is_answer = True
            raise
        except (IndexError, ValueError, struct.error) as error:
            self._rdsproxy_give_up(error)
        raise AssertionError  # the driver's function always raises

    def _rdsproxy_lose(self, why: str = "") -> NoReturn:
        self._force_close()
        raise err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query{why}")

    def _rdsproxy_fail(self, error: Exception) -> NoReturn:
        """Reading an answer raised: give up if the packets are to blame, and not a converter of the user's."""
        if _is_parsers(error):
            self._rdsproxy_give_up(error)
        raise error

    def _rdsproxy_give_up(self, error: Exception) -> NoReturn:
        """What arrived cannot be understood: nothing that follows can be either."""
        self._force_close()
        raise err.OperationalError(
            CR.CR_MALFORMED_PACKET, f"Malformed packet: {error or type(error).__name__}"
        ) from error


def _is_parsers(error: BaseException) -> bool:
    """Whether the error was raised by who reads packets, and not by a converter of the user's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_PARSERS)


class Result(MySQLResult):
    """The driver's result, which also takes in what stands behind its rows."""

    connection: Any
    unbuffered_active: bool
    rows: Any
    _rdsproxy_wire: Any = None

    def read(self) -> None:
        wire = self.connection
        try:
            head = wire._rdsproxy_last_head
            if head is not None and wire._rdsproxy_takes(head):
                self.field_count = len(head.fields)
                self._rdsproxy_begin(head)
                self._rdsproxy_read_rows(wire)
                return
            data = wire._rdsproxy_payload()
            first = data[0]
            if first == _OK:
                self._rdsproxy_end(data)
            elif first == _LOCAL_FILE:
                self._read_load_local_packet(MysqlPacket(data, wire.encoding))
            else:
                self.field_count, _ = read_length(data, 0)
                self._get_descriptions()
                self._rdsproxy_read_rows(wire)
        finally:
            self.connection = None  # the driver's way of having no cycle

    def init_unbuffered_query(self) -> None:
        self._rdsproxy_wire = self.connection  # which the driver forgets before it reads an OK packet
        try:
            super().init_unbuffered_query()
        finally:
            self._rdsproxy_wire = None

    def _read_ok_packet(self, packet: MysqlPacket) -> None:
        self._rdsproxy_end(packet._data)

    def _read_load_local_packet(self, first_packet: MysqlPacket) -> None:
        sock = self.connection._sock
        limit = set_user_timeout(sock.fileno(), 0)  # a server that waits for a lock does not read on
        try:
            super()._read_load_local_packet(first_packet)
        except err.OperationalError as error:
            if error.args[0] == ER.FILE_NOT_FOUND:  # the driver's; it has read the server's answer meanwhile
                error._rdsproxy_is_answer = True
            raise
        except RuntimeError as error:
            raise Malformed("the server asks for a file that was not offered") from error
        finally:
            if limit:
                set_user_timeout(sock.fileno(), limit)

    def _read_rowdata_packet_unbuffered(self) -> Any:
        """The next row, None behind the last. Raises what a converter raises; the next call reads on."""
        wire = self.connection
        try:
            packet = wire._read_packet()
            if self._check_packet_is_eof(packet):
                self.unbuffered_active = False
                self.connection = self.rows = None
                return None
        except _NOT_THE_ROWS_FAULT as error:
            wire._rdsproxy_give_up(error)
        try:
            row = _row(packet._data, self.converters)
        except Malformed as error:
            wire._rdsproxy_give_up(error)
        except Exception:
            wire._rdsproxy_is_in_step = True
            raise
        self.affected_rows, self.rows = 1, (row,)
        return row

    def _finish_unbuffered_query(self) -> None:
        wire = self.connection
        try:
            super()._finish_unbuffered_query()
        except _NOT_THE_ROWS_FAULT as error:
            wire._rdsproxy_fail(error)

    def _rdsproxy_end(self, data: bytes) -> None:
        affected, insert_id, status, self.warning_count, self.message, block = read_ok(data)
        if data[0] == _OK:
            self.affected_rows, self.insert_id = affected, insert_id
        self.server_status = status
        self.has_next = status & MORE_RESULTS
        connection = self.connection or self._rdsproxy_wire
        connection.server_status = status
        if block:
            connection._rdsproxy_tracked.take_in(block)

    def _check_packet_is_eof(self, packet: MysqlPacket) -> bool:
        data = packet._data
        if data[0] != _END_OF_ROWS or len(data) >= _LONGEST_END:
            return False
        self._rdsproxy_end(data)
        return True

    def _get_descriptions(self) -> None:
        wire = self.connection
        payloads = [wire._rdsproxy_payload() for _ in range(self.field_count)]
        key = (b"".join(payloads), wire.encoding, wire.use_unicode)
        decoders = wire._rdsproxy_own_decoders
        if decoders is None:
            head = wire._rdsproxy_last_head
            if head is not None and head.key == key:
                head.came_again(payloads)
            else:
                head = wire._rdsproxy_last_head = wire._rdsproxy_columns.known.get(key)
            if head is not None:
                self._rdsproxy_begin(head)
                return
        self.connection = _Descriptions(wire, decoders or wire._rdsproxy_decoders, iter(payloads))
        try:
            super()._get_descriptions()
        except ValueError as error:
            raise Malformed(f"the name of a column: {error}") from error
        finally:
            self.connection = wire
        if decoders is None:
            wire._rdsproxy_last_head = head = Head(key, self)
            wire._rdsproxy_columns.keep(head)

    def _rdsproxy_begin(self, head: Head) -> None:
        self.fields, self.converters, self.description = head.fields, head.converters, head.description

    def _rdsproxy_read_rows(self, wire: Wire) -> None:
        """All rows, up to and with the end. Raises Malformed, and what a converter raises."""
        next_payload = wire._rdsproxy_payload
        converters = self.converters
        rows: list[tuple[Any, ...]] = []
        failure: Exception | None = None
        while True:
            data = next_payload()
            if data[0] == _END_OF_ROWS and len(data) < _LONGEST_END:
                break
            if failure is None:
                try:
                    rows.append(_row(data, converters))
                except Malformed:
                    raise
                except Exception as error:
                    failure = error
        self._rdsproxy_end(data)
        if failure is not None:
            wire._rdsproxy_is_in_step = True
            raise failure
        self.affected_rows = len(rows)
        self.rows = tuple(rows)


def _row(data: bytes, converters: list[tuple[str | None, Callable[[Any], Any] | None]]) -> tuple[Any, ...]:
    """The values of one row. Raises Malformed, and what a converter raises."""
    row: list[Any] = []
    at, end = 0, len(data)
    for encoding, converter in converters:
        if at >= end:
            raise Malformed("a row that ends too early")
        size = data[at]
        at += 1
        if size >= _NULL:
            if size == _NULL:
                row.append(None)
                continue
            size, at = read_length(data, at - 1)
        value: Any = data[at : at + size]
        at += size
        if at > end:
            raise Malformed("a row that is cut short")
        if encoding is not None:
            value = value.decode(encoding)
        if converter is not None:
            value = converter(value)
        row.append(value)
    if at != end:
        raise Malformed("a row that goes on")
    return tuple(row)


class _Descriptions:
    """What the driver reads the descriptions of columns from: the EOF packet it expects behind them is not sent."""

    __slots__ = ("decoders", "encoding", "payloads", "use_unicode")

    def __init__(self, wire: Any, decoders: dict[int, Any], payloads: Iterator[bytes]) -> None:
        self.use_unicode = wire.use_unicode
        self.encoding = wire.encoding
        self.decoders = decoders
        self.payloads = payloads

    def _read_packet(self, kind: type[MysqlPacket] = MysqlPacket) -> Any:
        return FieldDescriptorPacket(next(self.payloads), self.encoding) if kind is not MysqlPacket else _EOF


_EOF = MysqlPacket(b"\xfe\0\0\0\0", "ascii")
