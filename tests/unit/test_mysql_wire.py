"""A connection whose peer sends anything: it ends with an error of the driver, or it read what the driver would."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection as Driver
from pymysql.constants import FIELD_TYPE

from rdsproxy_lib.engines.mysql import _listening
from rdsproxy_lib.engines.mysql_wire import Wire

BIGGEST = 0xFFFFFF
SECONDS = 20.0
HOSTILE = 4_000
RANDOM_RESULTS = 1_500


# -- what a server sends


def length(number: int) -> bytes:
    if number < 0xFB:
        return bytes([number])
    for first, size in ((0xFC, 2), (0xFD, 3)):
        if number < 1 << 8 * size:
            return bytes([first]) + number.to_bytes(size, "little")
    return b"\xfe" + number.to_bytes(8, "little")


def text(data: bytes | None) -> bytes:
    return b"\xfb" if data is None else length(len(data)) + data


def column(name: bytes, kind: int, charset: int = 45, flags: int = 0, table: bytes = b"t", scale: int = 0) -> bytes:
    head = b"".join(map(text, (b"def", b"d", table, table, name, name if table else b"")))
    return head + struct.pack("<BHIBHBxx", 12, charset, 20, kind, flags, scale)


def ok(status: int = 2, *, header: int = 0, affected: int = 0, insert_id: int = 0, warnings: int = 0) -> bytes:
    return bytes([header]) + length(affected) + length(insert_id) + struct.pack("<HH", status, warnings)


def eof(status: int = 2, warnings: int = 0) -> bytes:
    return b"\xfe" + struct.pack("<HH", warnings, status)


def failure(code: int = 1064, message: bytes = b"no", state: bytes = b"42000") -> bytes:
    return b"\xff" + struct.pack("<H", code) + b"#" + state + message


def rows(columns: list[bytes], values: list[list[bytes | None]], status: int = 2, warnings: int = 0) -> list[bytes]:
    """A result as it comes with CLIENT.DEPRECATE_EOF."""
    lines = [b"".join(map(text, row)) for row in values]
    return [length(len(columns)), *columns, *lines, ok(status, header=0xFE, warnings=warnings)]


def old_rows(columns: list[bytes], values: list[list[bytes | None]], status: int = 2, warnings: int = 0) -> list[bytes]:
    """The same result as it comes without."""
    new = rows(columns, values)
    at = 1 + len(columns)
    return [*new[:at], eof(status), *new[at:-1], eof(status, warnings)]


def packed(payloads: list[bytes], first: int = 1) -> bytes:
    """Payloads with their headers, the long ones in pieces."""
    stream, number = [], first
    for payload in payloads:
        while True:
            piece, payload = payload[:BIGGEST], payload[BIGGEST:]
            stream += [len(piece).to_bytes(3, "little"), bytes([number & 0xFF]), piece]
            number += 1
            if len(piece) < BIGGEST:
                break
    return b"".join(stream)


# -- a connection with a peer


def bare(kind: type[Any], seconds: float = SECONDS, **arguments: Any) -> tuple[Any, socket.socket]:
    """A connection that is logged in already, and its peer's socket."""
    mine, peer = socket.socketpair()
    driver: Any = Driver(defer_connect=True, ssl_disabled=True, **arguments)
    driver._sock, driver._rfile = mine, mine.makefile("rb")
    driver._closed, driver._next_seq_id, driver._result = False, 0, None
    driver.server_status, driver._current_timeout = 2, -1.0
    if kind is Driver:
        driver._read_timeout = driver._write_timeout = seconds
        return driver, peer
    wire = _listening(driver)
    wire._read_timeout = wire._write_timeout = seconds
    return wire, peer


@contextmanager
def fed(
    kind: type[Any], stream: bytes, *, hang_up: bool = True, seconds: float = SECONDS, **more: Any
) -> Iterator[Any]:
    """A connection whose peer has answered already with this stream of bytes."""
    connection, peer = bare(kind, seconds, **more)

    def feed() -> None:
        with suppress(OSError):
            peer.sendall(stream)
            if hang_up:
                peer.shutdown(socket.SHUT_WR)

    feeder = None
    if len(stream) < 50_000:
        feed()
    else:
        feeder = threading.Thread(target=feed)
        feeder.start()
    try:
        yield connection
    finally:
        if connection._result is not None:  # or its end would read on
            connection._result.unbuffered_active = False
        connection._force_close()
        peer.close()
        if feeder is not None:
            feeder.join(SECONDS)


def buffered(connection: Any) -> list[Any]:
    """Read all results at once."""
    connection.query("SELECT 1")
    read = [outcome(connection._result)]
    while connection._result.has_next:
        connection.next_result()
        read.append(outcome(connection._result))
    return read


def streamed(connection: Any) -> list[Any]:
    """Read the first result row by row."""
    connection.query("SELECT 1", unbuffered=True)
    result, lines = connection._result, []
    description = result.description
    while result.unbuffered_active and (row := result._read_rowdata_packet_unbuffered()) is not None:
        lines.append(row)
    return [(description, tuple(lines), result.warning_count, result.has_next)]


def dropped(connection: Any) -> list[Any]:
    """Begin to read a result row by row, then leave the rest to the next command."""
    connection.query("SELECT 1", unbuffered=True)
    if connection._result.unbuffered_active:
        connection._result._read_rowdata_packet_unbuffered()
        connection._result._finish_unbuffered_query()
    return []


def pinged(connection: Any) -> list[Any]:
    """An exchange that is answered by one OK packet."""
    connection._execute_command(14, b"")
    connection._read_ok_packet()
    return [connection.server_status]


READERS: dict[str, Callable[[Any], list[Any]]] = {
    "buffered": buffered,
    "streamed": streamed,
    "dropped": dropped,
    "ping": pinged,
}


def outcome(result: Any) -> Any:
    described = getattr(result, "fields", None) or []
    fields = [{name: value for name, value in vars(field).items() if name[0] != "_"} for field in described]
    return (
        result.description,
        fields,
        result.rows,
        result.affected_rows,
        result.insert_id,
        result.warning_count,
        bool(result.has_next),
    )


# -- hostile peers

A_TABLE = rows(
    [
        column(b"id", FIELD_TYPE.LONG, 63),
        column(b"name", FIELD_TYPE.VAR_STRING),
        column(b"at", FIELD_TYPE.DATETIME, 63),
    ],
    [[b"1", b"one", b"2020-01-02 03:04:05"], [b"2", None, None], [b"3", b"x" * 300, b"0000-00-00 00:00:00"]],
)
ANSWERS: dict[str, list[bytes]] = {
    "ok": [ok(affected=3, insert_id=70_000)],
    "ok with trackers": [
        bytes.fromhex("00000001400000003600140c73746174656d656e745f6964063831323839390509085" + "45f" * 7)
    ],
    "error": [failure()],
    "error without state": [b"\xff\x28\x04no state"],
    "table": A_TABLE,
    "no rows": rows([column(b"id", FIELD_TYPE.LONG, 63)], []),
    "two results": [*rows([column(b"a", FIELD_TYPE.LONG)], [[b"1"]], status=10), *A_TABLE],
    "error after rows": [*A_TABLE[:-1], failure(1317, b"interrupted", b"70100")],
    "error in the second": [*rows([column(b"a", FIELD_TYPE.LONG)], [[b"1"]], status=10), failure()],
    "local file": [b"\xfb/etc/passwd", ok()],
    "old rows": old_rows([column(b"id", FIELD_TYPE.LONG, 63)], [[b"1"], [b"2"]]),
}


def ended(connection: Any, error: BaseException | None, stream: bytes) -> None:
    """What has to be so after any stream: an error of the driver, and no half-read connection that is still open."""
    shown = stream[:400].hex()
    if error is None:
        return
    assert isinstance(error, pymysql.err.Error), f"{error!r} from {shown}"
    if connection._sock is None:
        return
    is_servers = getattr(error, "_rdsproxy_is_answer", False) or not 2000 <= error.args[0] < 3000
    assert is_servers, f"{error!r} leaves it open, from {shown}"


def try_out(reader: str, stream: bytes, **more: Any) -> BaseException | None:
    """Read a stream; the error that came of it."""
    with fed(Wire, stream, **more) as connection:
        error: BaseException | None = None
        started = time.monotonic()
        try:
            READERS[reader](connection)
        except BaseException as raised:
            error = raised
        assert time.monotonic() - started < 5, f"slow: {stream[:400].hex()}"
        if error is not None and not isinstance(error, pymysql.err.Error) and _is_the_values_fault(error, stream):
            return error
        ended(connection, error, stream)
        return error


def _is_the_values_fault(error: BaseException, stream: bytes) -> bool:
    """Whether a value could not be decoded or converted, and the driver says the same: the application's matter."""
    if not isinstance(error, ValueError | ArithmeticError | TypeError):
        return False
    trace, names = error.__traceback__, set()
    while trace is not None:
        names.add(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return not names.isdisjoint(("_row", "_rdsproxy_read_rows", "_read_row_from_packet"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_ends_anywhere(answer, reader):
    """The peer hangs up after any byte of any answer: an error of the driver, and a closed connection."""
    stream = packed(ANSWERS[answer])
    for end in range(len(stream)):
        error = try_out(reader, stream[:end])
        assert error is None or isinstance(error, pymysql.err.Error)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_whose_numbers_are_wrong(answer, reader):
    """A sequence number that does not follow is noticed at once, wherever it is."""
    payloads = ANSWERS[answer]
    for wrong in range(len(payloads)):
        for number in (0, 7, 255):
            head = packed(payloads[:wrong])
            stream = head + packed(payloads[wrong:], first=wrong + 1 + (number or 256 - wrong - 1))
            try_out(reader, stream)


def mutated(dice: random.Random) -> bytes:
    """Packets of real answers: left out, doubled, swapped, mixed, their bytes and lengths changed."""
    payloads = list(dice.choice(list(ANSWERS.values())))
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(payloads))
        way = dice.randrange(9)
        if way == 0 and len(payloads) > 1:
            del payloads[at]
        elif way == 1:
            payloads.insert(at, dice.choice(payloads))
        elif way == 2:
            payloads.insert(at, dice.choice(dice.choice(list(ANSWERS.values()))))
        elif way == 3:
            payloads[at] = dice.randbytes(dice.randrange(20))
        elif way == 4:
            payloads[at] = payloads[at][: dice.randrange(len(payloads[at]) + 1)]
        elif way == 5:
            payloads[at] += dice.randbytes(dice.randrange(1, 9))
        elif way == 6:
            payloads[at] = dice.choice(
                (b"", b"\xff", b"\xfe", b"\xfb", b"\0", b"\xfe" + b"\xff" * 8, b"\xfd\xff\xff\xff")
            )
        else:
            changed = bytearray(payloads[at] or b"\0")
            for _ in range(dice.randrange(1, 4)):
                changed[dice.randrange(len(changed))] = dice.choice(
                    (0, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, dice.randrange(256))
                )
            payloads[at] = bytes(changed)
    stream = bytearray(packed(payloads))
    if dice.random() < 0.1:
        stream[dice.randrange(len(stream))] = dice.randrange(256)
    if dice.random() < 0.05:
        stream = bytearray(dice.randbytes(dice.randrange(200)))
    return bytes(stream)


def test_no_stream_raises_anything_but_errors_of_the_driver():
    """Thousands of mutated answers, read in every way, end in the driver's own errors and closed connections."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)
    outcomes: dict[str, int] = {}
    faults: dict[str, str] = {}
    for number in range(HOSTILE):
        stream = mutated(dice)
        try:
            error = try_out(list(READERS)[number % len(READERS)], stream)
        except AssertionError as fault:
            faults.setdefault(f"{str(fault)[:70]}", str(fault))
            continue
        name = type(error).__name__
        outcomes[name] = outcomes.get(name, 0) + 1
    print(outcomes)
    assert not faults, "\n".join(f"{fault[:500]}" for fault in faults.values())
    assert len(outcomes) >= 3


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\5\0",
        packed([b"\3"]),
        packed(A_TABLE[:-1]),
        b"\xff\xff\xff\1" + b"\0" * 10,
        packed([length(2**64 - 1)]),
        packed([b"\xfc\xff\xff", column(b"a", 3)]),
    ],
    ids=[
        "nothing",
        "half a header",
        "no columns",
        "no end",
        "16 MB that do not come",
        "2**64 columns",
        "65535 columns",
    ],
)
def test_a_peer_that_falls_silent(stream, reader):
    """Nothing more comes, and the peer does not hang up: read_timeout ends it with 2013, and it is closed."""
    with fed(Wire, stream, hang_up=False, seconds=0.15) as connection:
        started = time.monotonic()
        with pytest.raises(pymysql.err.Error) as raised:
            READERS[reader](connection)
        assert time.monotonic() - started < 5
        assert connection._sock is None
        assert raised.value.args[0] in (2013, 2014, 2027)


@pytest.mark.parametrize("bad", [b"\xff", b"\xff\1", b"\xff\1\2", b"\xff\1\2#\xff\xff\xff\xff\xffno", b"\xff\0\0#"])
@pytest.mark.parametrize("reader", READERS)
def test_errors_that_are_no_errors(bad, reader):
    """An ERR packet that is cut short or not text is an error of the driver all the same."""
    try_out(reader, packed([bad]))
    try_out(reader, packed([*A_TABLE[:4], bad]))


@pytest.mark.parametrize("reader", ["buffered", "streamed", "dropped"])
def test_a_wellformed_error_leaves_it_open(reader):
    """The server's own error, first or after some rows, is raised as it is, and the next exchange works."""
    for payloads in (ANSWERS["error"], ANSWERS["error after rows"]):
        stream = packed(payloads) + packed([ok(affected=5)])
        with fed(Wire, stream) as connection:
            with pytest.raises(pymysql.err.Error) as raised:
                READERS[reader](connection)
            assert raised.value.args[0] in (1064, 1317)
            assert connection._sock is not None
            assert connection.query("INSERT") == 5


@pytest.mark.parametrize("reader", ["buffered", "streamed", "dropped"])
def test_rows_that_lie(reader):
    """Values longer than their row, and lengths that are none, are malformed rows."""
    columns = [column(b"a", FIELD_TYPE.VAR_STRING), column(b"b", FIELD_TYPE.VAR_STRING)]
    for row in (
        b"\5abc",
        b"\1a\5bc",
        b"\xfc\xff",
        b"\xfd\1\2",
        b"\1a\xff",
        b"\xfc\xff\xffabc",
        b"\1a\xfe\xff\xff\xff\xff",
    ):
        error = try_out(reader, packed([b"\2", *columns, row, ok(header=0xFE)]))
        assert isinstance(error, pymysql.err.Error), (row, error)


def test_columns_that_lie():
    """Descriptions that are cut short, too long or not text are malformed."""
    good = column(b"a", FIELD_TYPE.VAR_STRING)
    for bad in (b"", b"\3de", good[:-3], b"\xfb" * 30, column(b"\xff\xfe", 253), b"\xff" * 9, b"\xfe" * 30):
        for reader in ("buffered", "streamed"):
            error = try_out(reader, packed([b"\2", good, bad, b"\1a\1b", ok(header=0xFE)]))
            assert isinstance(error, pymysql.err.Error), (bad, error)


# -- packets of 16 MB and more


@pytest.mark.parametrize("size", [BIGGEST - 5, BIGGEST - 4, BIGGEST - 3, BIGGEST, BIGGEST + 1, 2 * BIGGEST + 7])
@pytest.mark.parametrize("filling", [b"a", b"\xff", b"\xfe", b"\0"])
@pytest.mark.parametrize("reader", ["buffered", "streamed"])
def test_values_around_sixteen_megabytes(size, filling, reader):
    """A value that is sent in several packets is one value, whatever bytes the pieces begin with."""
    columns = [column(b"a", FIELD_TYPE.LONG_BLOB, 63), column(b"b", FIELD_TYPE.LONG, 63)]
    value = filling * size
    with fed(Wire, packed(rows(columns, [[value, b"7"], [b"next", b"8"]]))) as connection:
        (read,) = READERS[reader](connection)
    lines = read[2] if reader == "buffered" else read[1]
    assert len(lines) == 2
    assert lines[0][0] == value
    assert lines[0][1] == 7
    assert lines[1] == (b"next", 8)


@pytest.mark.parametrize("reader", ["buffered", "streamed"])
def test_a_long_row_whose_end_is_missing(reader):
    """After a packet of the greatest size another one has to come."""
    columns = [column(b"a", FIELD_TYPE.LONG_BLOB, 63)]
    stream = packed(rows(columns, [[b"a" * BIGGEST]]))
    error = try_out(reader, stream[: len(packed([b"\1", *columns])) + 4 + BIGGEST])
    assert isinstance(error, pymysql.err.OperationalError)


# -- the same as the driver's own

TEXTS = (FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING, FIELD_TYPE.BLOB, FIELD_TYPE.JSON, FIELD_TYPE.ENUM, FIELD_TYPE.BIT)
NUMBERS = (FIELD_TYPE.TINY, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR, FIELD_TYPE.INT24)


def random_value(dice: random.Random, kind: int, charset: int) -> bytes | None:
    if dice.random() < 0.15:
        return None
    if kind in NUMBERS:
        return str(dice.choice((0, -1, 7, 2**31, -(2**63), 2**64 - 1))).encode()
    if kind in (FIELD_TYPE.DOUBLE, FIELD_TYPE.FLOAT):
        return dice.choice((b"0", b"1e300", b"-1.5", b"nan", b"3.14159"))
    if kind in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        return dice.choice((b"0.00", b"-12345678901234567890.12", b"7"))
    if kind in (FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP):
        return dice.choice(
            (b"2020-01-02 03:04:05", b"0000-00-00 00:00:00", b"2020-02-31 00:00:00", b"1-1-1 1:1:1.5", b"")
        )
    if kind == FIELD_TYPE.DATE:
        return dice.choice((b"2020-01-02", b"0000-00-00", b"", b"x"))
    if kind == FIELD_TYPE.TIME:
        return dice.choice((b"-838:59:59", b"00:00:00.123456", b"x", b"12:61:00"))
    size = dice.choice((0, 1, 3, 250, 251, 252, 253, 255, 256, 65535, 65536, 70_000)) if dice.random() < 0.2 else 5
    if charset == 63:
        return dice.randbytes(size)
    return ("aé漢😀\0"[dice.randrange(5)] * size).encode()


def random_result(dice: random.Random) -> tuple[list[bytes], list[list[bytes | None]]]:
    kinds = [
        dice.choice((*TEXTS, *NUMBERS, 0, 4, 5, 7, 10, 11, 12, 246, 245, 251, 255, 6))
        for _ in range(dice.choice((1, 1, 2, 5, 260 if dice.random() < 0.05 else 3)))
    ]
    charsets = [dice.choice((45, 63, 255)) for _ in kinds]
    table = dice.choice((b"", b"t", "tabelé".encode()))
    columns = [
        column(f"c{number}é".encode(), kind, charset, dice.choice((0, 1, 16, 128, 0x8000)), table, dice.randrange(32))
        for number, (kind, charset) in enumerate(zip(kinds, charsets, strict=True))
    ]
    lines = [
        [random_value(dice, kind, charset) for kind, charset in zip(kinds, charsets, strict=True)]
        for _ in range(dice.choice((0, 1, 2, 20)))
    ]
    return columns, lines


def answer_of(kind: type[Any], read: Callable[[Any], list[Any]], stream: bytes, **arguments: Any) -> Any:
    with fed(kind, stream, **arguments) as connection:
        try:
            return read(connection)
        except Exception as error:
            return type(error), error.args


def again(read: Callable[[Any], list[Any]], times: int) -> Callable[[Any], list[Any]]:
    """Read so many answers: a head that came twice is taken for known."""
    return lambda connection: [read(connection) for _ in range(times)]


def test_results_are_the_drivers():
    """Random results read by the driver, without DEPRECATE_EOF, and by us, with it, are equal in every respect."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for number in range(RANDOM_RESULTS):
        columns, lines = random_result(dice)
        warnings = dice.choice((0, 3))
        more = dice.random() < 0.2
        new = rows(columns, lines, 10 if more else 2, warnings)
        old = old_rows(columns, lines, 10 if more else 2, warnings)
        read = buffered if more else dice.choice((buffered, streamed))
        if more:
            new.append(ok(affected=number, insert_id=number * 1000, warnings=1))
            old.append(ok(affected=number, insert_id=number * 1000, warnings=1))
        arguments = {"charset": "utf8mb4", "use_unicode": dice.random() < 0.8}
        times = dice.choice((1, 3))
        ours = answer_of(Wire, again(read, times), packed(new) * times, **arguments)
        theirs = answer_of(Driver, again(read, times), packed(old) * times, **arguments)
        assert repr(ours) == repr(theirs), f"{number}: {new}"


def test_the_same_columns_again():
    """Descriptions that were kept are those of the same bytes only: other names, types and encodings get their own."""
    wanted = [
        ([column(b"a", FIELD_TYPE.LONG)], [[b"1"]], (1,)),
        ([column(b"a", FIELD_TYPE.LONG)], [[b"2"]], (2,)),
        ([column(b"a", FIELD_TYPE.VAR_STRING)], [[b"2"]], ("2",)),
        ([column(b"b", FIELD_TYPE.VAR_STRING)], [[b"2"]], ("2",)),
        ([column(b"b", FIELD_TYPE.VAR_STRING, 63)], [[b"2"]], ("2",)),
        ([column(b"a", FIELD_TYPE.LONG, table=b"")], [[b"3"]], (3,)),
        ([column(b"a", FIELD_TYPE.VAR_STRING, table=b"")], [[b"3"]], ("3",)),
    ]
    stream = b"".join(packed(rows(columns, lines)) for _ in range(2) for columns, lines, _ in wanted)
    with fed(Wire, stream) as connection:
        for _ in range(2):
            for columns, _, row in wanted:
                connection.query("SELECT")
                assert connection._result.rows in ((row,), (tuple(str(value).encode() for value in row),))
                assert [field.name for field in connection._result.fields] == ["b" if b"\1b\1b" in columns[0] else "a"]


@pytest.mark.parametrize("count", [1, 3, 249, 250, 251, 252, 255, 256, 600])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_head_that_comes_again_and_again(count, size):
    """However many columns, and however long: with other answers between, and with another encoding behind them."""
    columns = [column(b"c" * size, FIELD_TYPE.VAR_STRING) for _ in range(count)]
    answer, values = packed(rows(columns, [[b"\xc3\xa9"] * count])), ("é",) * count
    stream = answer * 3 + packed([ok(affected=3)]) + answer * 2 + packed([failure()]) + answer * 4
    with fed(Wire, stream, charset="utf8mb4") as connection:
        for _ in range(3):
            assert buffered(connection)[0][2] == (values,)
        assert connection.query("UPDATE") == 3
        for _ in range(2):
            assert buffered(connection)[0][2] == (values,)
        with pytest.raises(pymysql.err.ProgrammingError):
            connection.query("SELECT bad")
        connection.encoding = "latin-1"
        assert buffered(connection)[0][2] == (("Ã©",) * count,)
        connection.encoding = "utf8"
        assert streamed(connection)[0][1] == (values,)
        connection.use_unicode = False
        assert buffered(connection)[0][2] == ((b"\xc3\xa9",) * count,)
        connection.use_unicode = True
        connection._rdsproxy_own_decoders = {FIELD_TYPE.VAR_STRING: len}
        assert buffered(connection)[0][2] == ((1,) * count,)


@pytest.mark.parametrize(
    ("answer", "reader"),
    [*product(("table", "no rows", "error after rows"), ("buffered", "streamed")), ("two results", "buffered")],
)
def test_an_answer_that_came_before_and_ends_anywhere(answer, reader):
    """A head that is known does not hide that the rest is missing, or that something else came."""
    known, other = packed(ANSWERS[answer]), packed(rows([column(b"other", FIELD_TYPE.LONG)], [[b"5"]]))
    for rest in (*(known[:end] for end in range(len(known))), other):
        with fed(Wire, known * 2 + rest) as connection:
            for _ in range(2):
                with suppress(pymysql.err.OperationalError):  # of the error after rows
                    READERS[reader](connection)
            error: BaseException | None = None
            try:
                read = READERS[reader](connection)
            except BaseException as raised:
                error = raised
            ended(connection, error, rest)
            if rest is other:
                assert error is None
                assert read[0][0][0][0] == "other"
            else:
                assert error is not None


# -- converters of the application


class Mine(Exception):
    """An error of the application's."""


@pytest.mark.parametrize(
    "raised", [Mine, ValueError, KeyError, IndexError, AssertionError, AttributeError, struct.error]
)
@pytest.mark.parametrize("reader", ["buffered", "streamed"])
def test_errors_of_converters_pass(raised, reader):
    """What a converter of the application raises is not taken for a malformed packet."""

    def convert(value: Any) -> Any:
        raise raised("mine")

    stream = packed(rows([column(b"a", FIELD_TYPE.LONG, 63)], [[b"1"]]))
    with fed(Wire, stream, conv={FIELD_TYPE.LONG: convert}) as connection, pytest.raises(raised, match="mine"):
        READERS[reader](connection)


# -- the socket


@pytest.mark.parametrize("kind", [Wire, Driver])
@pytest.mark.parametrize(
    "stream", [b"", packed([b"\3"], first=9), packed([b"\1", b"\xfb" * 30])], ids=["timeout", "number", "column"]
)
def test_a_lost_socket_is_closed_at_once(stream, kind):
    """The peer sees the end also while somebody keeps the error: no transaction stays open for a log line."""
    connection, peer = bare(kind, 0.1)
    peer.sendall(stream)
    kept: list[BaseException] = []
    try:
        connection.query("SELECT 1")
    except Exception as error:
        kept.append(error)
        connection._force_close()
    assert kept
    peer.settimeout(1)
    assert peer.recv(100).endswith(b"SELECT 1")
    assert peer.recv(100) == b""
    peer.close()
