"""OK packets and session trackers: what real servers send, and what nobody should."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsproxy_lib.engines.mysql_tracking import STATE_CHANGED, Malformed, Tracked, read_length, read_ok, read_string
from rdsproxy_lib.sql import Dialect

# Captured: server, statement, packet, (affected rows, insert id, status, warnings), changes, characteristics.
REAL = [
    (
        "mariadb-10.11",
        "SELECT 1",
        "fe000002000000",
        (0, 0, 2, 0),
        [],
        "",
    ),
    (
        "mariadb-10.11",
        "SET autocommit=0",
        "000000004000000014000f0a6175746f636f6d6d6974034f4646020131",
        (0, 0, 16384, 0),
        ["autocommit", "state"],
        "",
    ),
    (
        "mariadb-10.11",
        "SET NAMES latin1",
        "0000000040000000620020186368617261637465725f7365745f636f6e6e656374696f6e066c6174696e31001c146368"
        "617261637465725f7365745f636c69656e74066c6174696e31001d156368617261637465725f7365745f726573756c74"
        "73066c6174696e31020131",
        (0, 0, 16384, 0),
        ["character_set_connection", "character_set_client", "character_set_results", "state"],
        "",
    ),
    (
        "mariadb-10.11",
        "BEGIN",
        "000000014000000020050908545f5f5f5f5f5f5f0413125354415254205452414e53414354494f4e3b",
        (0, 0, 16385, 0),
        [],
        "START TRANSACTION;",
    ),
    (
        "mariadb-10.11",
        "INSERT INTO cap (a) VALUES (7),(8)",
        "00020101400000265265636f7264733a203220204475706c6963617465733a203020205761726e696e67733a20300b05"
        "0908545f5f5f575f5f5f",
        (2, 1, 16385, 0),
        [],
        "",
    ),
    (
        "mariadb-10.11",
        "SELECT * FROM cap FOR UPDATE",
        "fe000021400000000b050908545f5f5f575f535f",
        (0, 0, 16417, 0),
        [],
        "",
    ),
    (
        "mariadb-10.11",
        "COMMIT",
        "00000000400000000e0509085f5f5f5f5f5f5f5f040100",
        (0, 0, 16384, 0),
        [],
        "",
    ),
    (
        "mariadb-10.11",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "00000000400000003204302f534554205452414e53414354494f4e2049534f4c4154494f4e204c4556454c2052454144"
        "20434f4d4d49545445443b",
        (0, 0, 16384, 0),
        [],
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;",
    ),
    (
        "mariadb-10.11",
        "START TRANSACTION READ ONLY",
        "00000001600000005a050908545f5f5f5f5f5f5f044d4c534554205452414e53414354494f4e2049534f4c4154494f4e"
        "204c4556454c205245414420434f4d4d49545445443b205354415254205452414e53414354494f4e2052454144204f4e"
        "4c593b",
        (0, 0, 24577, 0),
        [],
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ ONLY;",
    ),
    (
        "mariadb-10.11",
        "USE app",
        "000000004000000009010403617070020131",
        (0, 0, 16384, 0),
        ["schema", "state"],
        "",
    ),
    (
        "mariadb-10.11",
        "CREATE TEMPORARY TABLE tt (a int)",
        "000000004000000003020131",
        (0, 0, 16384, 0),
        ["state"],
        "",
    ),
    (
        "mariadb-10.11",
        "SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "00000000c20000002f002a0873716c5f6d6f646520414e53495f51554f5445532c4e4f5f4241434b534c4153485f4553"
        "4341504553020131",
        (0, 0, 49664, 0),
        ["sql_mode", "state"],
        "",
    ),
    (
        "mariadb-10.11",
        "UPDATE cap SET a=a+1",
        "0002002140000028526f7773206d6174636865643a203220204368616e6765643a203220205761726e696e67733a2030"
        "0b050908495f5f5f575f5f5f",
        (2, 0, 16417, 0),
        [],
        "",
    ),
    (
        "mariadb-10.11",
        "PREPARE s FROM 'SELECT 1'",
        "000000014000001253746174656d656e7420707265706172656403020131",
        (0, 0, 16385, 0),
        ["state"],
        "",
    ),
    (
        "mysql-9.7",
        "SELECT 1",
        "fe000002400000001600140c73746174656d656e745f696406383133343132",
        (0, 0, 16386, 0),
        [],
        "",
    ),
    (
        "mysql-9.7",
        "SET autocommit=0",
        "00000000400000002a000f0a6175746f636f6d6d6974034f464600140c73746174656d656e745f696406383133343135020131",
        (0, 0, 16384, 0),
        ["autocommit", "state"],
        "",
    ),
    (
        "mysql-9.7",
        "SET NAMES latin1",
        "000000004000000078001c146368617261637465725f7365745f636c69656e74066c6174696e31002018636861726163"
        "7465725f7365745f636f6e6e656374696f6e066c6174696e31001d156368617261637465725f7365745f726573756c74"
        "73066c6174696e3100140c73746174656d656e745f696406383133343138020131",
        (0, 0, 16384, 0),
        ["character_set_client", "character_set_connection", "character_set_results", "state"],
        "",
    ),
    (
        "mysql-9.7",
        "BEGIN",
        "00000001400000003600140c73746174656d656e745f696406383133343231050908545f5f5f5f5f5f5f041312535441"
        "5254205452414e53414354494f4e3b",
        (0, 0, 16385, 0),
        [],
        "START TRANSACTION;",
    ),
    (
        "mysql-9.7",
        "INSERT INTO cap (a) VALUES (7),(8)",
        "00020101400000265265636f7264733a203220204475706c6963617465733a203020205761726e696e67733a20302100"
        "140c73746174656d656e745f696406383133343233050908545f5f5f575f5f5f",
        (2, 1, 16385, 0),
        [],
        "",
    ),
    (
        "mysql-9.7",
        "SELECT * FROM cap FOR UPDATE",
        "fe000021400000002100140c73746174656d656e745f696406383133343333050908545f5f5f575f535f",
        (0, 0, 16417, 0),
        [],
        "",
    ),
    (
        "mysql-9.7",
        "COMMIT",
        "00000000400000002400140c73746174656d656e745f6964063831333433360509085f5f5f5f5f5f5f5f040100",
        (0, 0, 16384, 0),
        [],
        "",
    ),
    (
        "mysql-9.7",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "00000000400000004800140c73746174656d656e745f69640638313334333904302f534554205452414e53414354494f"
        "4e2049534f4c4154494f4e204c4556454c205245414420434f4d4d49545445443b",
        (0, 0, 16384, 0),
        [],
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;",
    ),
    (
        "mysql-9.7",
        "START TRANSACTION READ ONLY",
        "00000001600000007000140c73746174656d656e745f696406383133343432050908545f5f5f5f5f5f5f044d4c534554"
        "205452414e53414354494f4e2049534f4c4154494f4e204c4556454c205245414420434f4d4d49545445443b20535441"
        "5254205452414e53414354494f4e2052454144204f4e4c593b",
        (0, 0, 24577, 0),
        [],
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ ONLY;",
    ),
    (
        "mysql-9.7",
        "USE app",
        "00000000400000001f00140c73746174656d656e745f696406383133343435010403617070020131",
        (0, 0, 16384, 0),
        ["schema", "state"],
        "",
    ),
    (
        "mysql-9.7",
        "CREATE TEMPORARY TABLE tt (a int)",
        "00000001400000001900140c73746174656d656e745f696406383133343533020131",
        (0, 0, 16385, 0),
        ["state"],
        "",
    ),
    (
        "mysql-9.7",
        "SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "000000014200000045002a0873716c5f6d6f646520414e53495f51554f5445532c4e4f5f4241434b534c4153485f4553"
        "434150455300140c73746174656d656e745f696406383133343638020131",
        (0, 0, 16897, 0),
        ["sql_mode", "state"],
        "",
    ),
    (
        "mysql-9.7",
        "UPDATE cap SET a=a+1",
        "0002002140000028526f7773206d6174636865643a203220204368616e6765643a203220205761726e696e67733a2030"
        "2100140c73746174656d656e745f696406383133343735050908495f5f5f575f5f5f",
        (2, 0, 16417, 0),
        [],
        "",
    ),
    (
        "mysql-9.7",
        "PREPARE s FROM 'SELECT 1'",
        "000000014000001253746174656d656e742070726570617265641900140c73746174656d656e745f696406383133343931020131",
        (0, 0, 16385, 0),
        ["state"],
        "",
    ),
]
PACKETS = [bytes.fromhex(packet) for _, _, packet, _, _, _ in REAL]
FUZZED = 120_000


def parse(packet: bytes, tracked: Tracked) -> tuple[int, int, int, int]:
    """What a connection does with an OK packet."""
    affected, insert_id, status, warnings, _, block = read_ok(packet)
    if block:
        tracked.take_in(block)
    return affected, insert_id, status, warnings


@pytest.mark.parametrize(
    ("source", "statement", "packet", "numbers", "changes", "characteristics"),
    REAL,
    ids=[f"{source}: {statement}" for source, statement, *_ in REAL],
)
def test_what_real_servers_send(source, statement, packet, numbers, changes, characteristics):
    """Numbers, changed variables and the text that would restart the transaction are read as they were sent."""
    tracked = Tracked(Dialect.MYSQL)
    assert parse(bytes.fromhex(packet), tracked) == numbers
    assert tracked.changes == changes
    expected_dialect = Dialect.mysql("ANSI_QUOTES,NO_BACKSLASH_ESCAPES") if "sql_mode" in statement else Dialect.MYSQL
    assert tracked.dialect is expected_dialect
    assert tracked.schema == ("app" if statement == "USE app" else "")
    assert tracked.charsets == (
        dict.fromkeys(("character_set_client", "character_set_results"), "latin1") if "NAMES" in statement else {}
    )
    assert tracked.characteristics == characteristics


def test_variables_that_nobody_sets_are_no_changes():
    """MariaDB reports last_gtid with every write to its binary log, among others in one record."""
    names = ((b"last_gtid", b"0-1-9"), (b"autocommit", b"OFF"), (b"statement_id", b"7"))
    record = b"".join(bytes((len(part),)) + part for pair in names for part in pair)
    tracked = Tracked(Dialect.MYSQL)
    tracked.take_in(bytes((0, len(record))) + record)
    assert tracked.changes == ["autocommit"]


def test_messages_are_read():
    """The text that a server adds stands between the numbers and the trackers."""
    messages = {read_ok(packet)[4] for packet in PACKETS}
    assert messages == {
        b"",
        b"Statement prepared",
        b"Records: 2  Duplicates: 0  Warnings: 0",
        b"Rows matched: 2  Changed: 2  Warnings: 0",
    }


# -- packets made by the book


def length(number: int) -> bytes:
    """A length-encoded integer."""
    if number < 0xFB:
        return bytes([number])
    for first, size in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if number < 1 << 8 * size:
            return bytes([first]) + number.to_bytes(size, "little")
    raise AssertionError(number)


def text(data: bytes) -> bytes:
    """A length-encoded string."""
    return length(len(data)) + data


names = st.one_of(
    st.sampled_from(["autocommit", "sql_mode", "character_set_client", "statement_idle", "x"]), st.text(max_size=300)
)
values = st.one_of(st.sampled_from(["ON", "OFF", "", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES"]), st.text(max_size=300))
variables = st.lists(st.tuples(names, values), min_size=1, max_size=3)
trackers = st.one_of(
    st.tuples(st.just(0), variables),
    st.tuples(st.just(0), st.just([("statement_id", "812896")])),
    st.tuples(st.just(1), st.text(max_size=300)),
    st.tuples(st.just(2), st.just("1")),
    st.tuples(st.just(3), st.text(max_size=300)),
    st.tuples(st.just(4), st.text(max_size=300)),
    st.tuples(st.just(5), st.just("T___W_S_")),
)
numbers = st.one_of(st.integers(0, 255), st.integers(0, 2**64 - 1))


def record(kind: int, content: object) -> bytes:
    """One tracker as the servers write it."""
    if kind == 0:
        data = b"".join(text(part.encode()) for pair in content for part in pair)
    elif kind == 3:
        data = b"\0" + text(content.encode())
    else:
        data = text(content.encode())
    return bytes([kind]) + text(data)


@given(
    st.sampled_from([0x00, 0xFE]),
    numbers,
    numbers,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=300),
    st.lists(trackers, max_size=6),
)
def test_what_is_sent_is_what_is_read(header, affected, insert_id, status, warnings, message, records):
    """Any packet that is made by the book comes out as it was put in, also with lengths of two bytes."""
    status = status | STATE_CHANGED if records else status & ~STATE_CHANGED
    packet = bytes([header]) + length(affected) + length(insert_id)
    packet += status.to_bytes(2, "little") + warnings.to_bytes(2, "little")
    block = b"".join(record(kind, content) for kind, content in records)
    if message or records:
        packet += text(message)
    if records:
        packet += text(block)
    *read, seen = read_ok(packet)
    assert read == [affected, insert_id, status, warnings, message]
    is_noise = all(content == [("statement_id", "812896")] for _, content in records)
    assert seen == block or (is_noise and not seen)
    tracked = Tracked(Dialect.MYSQL)
    tracked.take_in(block)
    changes: list[str] = []
    characteristics, sql_mode, schema = "", "", ""
    for kind, content in records:
        if kind == 0 and content != [("statement_id", "812896")]:
            changes += [name for name, _ in content]
            sql_mode = next((value for name, value in reversed(content) if name == "sql_mode"), sql_mode)
        elif kind == 1:
            changes.append("schema")
            schema = content
        elif kind == 2:
            changes.append("state")
        elif kind == 4:
            characteristics = content
    assert tracked.changes == changes
    assert tracked.characteristics == characteristics
    assert tracked.schema == schema
    assert tracked.dialect is Dialect.mysql(sql_mode)


@given(st.integers(0, 2**64 - 1))
def test_lengths(number):
    """Every length comes back, and each of its beginnings is malformed."""
    encoded = length(number)
    assert read_length(b"x" + encoded + b"y", 1) == (number, 1 + len(encoded))
    for end in range(len(encoded)):
        with pytest.raises(Malformed):
            read_length(encoded[:end], 0)


def test_texts_that_are_cut_short():
    """A text shorter than it says is malformed, and so is one that says it has eighteen quintillion bytes."""
    assert read_string(b"\3abc", 0) == (b"abc", 4)
    for bad in (b"", b"\3ab", b"\xfc\xff\xffab", b"\xfe" + b"\xff" * 8 + b"ab", b"\xfb", b"\xff"):
        with pytest.raises(Malformed):
            read_string(bad, 0)


@pytest.mark.parametrize("packet", PACKETS, ids=range(len(PACKETS)))
def test_beginnings_of_real_packets(packet):
    """A real packet cut anywhere is Malformed, or ends where a shorter one may."""
    for end in range(len(packet)):
        with suppress(Malformed):
            parse(packet[:end], Tracked(Dialect.MYSQL))


# -- packets nobody sends


def random_bytes(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(60))


def random_ok(dice: random.Random) -> bytes:
    """Random bytes behind a good beginning that promises trackers."""
    return b"\0\0\0\0\x40\0\0\0" + dice.randbytes(dice.randrange(60))


def random_block(dice: random.Random) -> bytes:
    """Records of random kinds with random, mostly small lengths."""
    block = b""
    for _ in range(dice.randrange(6)):
        data = dice.randbytes(dice.randrange(12))
        said = len(data) if dice.random() < 0.7 else dice.choice((0, 1, len(data) + 1, 250, 251, 252, 253, 254, 255))
        block += bytes([dice.randrange(8), said]) + data
    said = len(block) if dice.random() < 0.8 else dice.randrange(256)
    return b"\0\0\0\0\x40\0\0\0" + bytes([said]) + block


def mutated(dice: random.Random) -> bytes:
    """A real packet with some bytes changed, put in, left out or doubled."""
    packet = bytearray(dice.choice(PACKETS))
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(packet) + 1)
        way = dice.randrange(5)
        if way == 0 and at < len(packet):
            packet[at] = dice.choice((0, 1, 2, 4, 5, 0x7F, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, dice.randrange(256)))
        elif way == 1:
            packet[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif way == 2:
            del packet[at : at + dice.randrange(1, 9)]
        elif way == 3:
            del packet[at:]
        else:
            packet[at:at] = dice.choice(PACKETS)
    return bytes(packet)


def lying(dice: random.Random) -> bytes:
    """A length that says anything, where one is expected."""
    lies = (b"\xfb", b"\xff", b"\xfc\xff\xff", b"\xfd\xff\xff\xff", b"\xfe" + b"\xff" * 8, b"\xfe" + dice.randbytes(8))
    packet = dice.choice(PACKETS)
    at = dice.randrange(1, len(packet))
    return packet[:at] + dice.choice(lies) + packet[at + dice.randrange(2) :]


KINDS: list[Callable[[random.Random], bytes]] = [random_bytes, random_ok, random_block, mutated, lying]


def packets(seed: int, count: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    for number in range(count):
        yield KINDS[number % len(KINDS)](dice)


def test_no_packet_does_anything_but_malformed():
    """More than 100,000 hostile packets are read or are Malformed, and none has more to tell than it has bytes."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    outcomes = {"read": 0, "malformed": 0}
    slowest = 0.0
    for packet in packets(seed, FUZZED):
        tracked = Tracked(Dialect.MYSQL)
        started = time.thread_time()
        try:
            numbers = parse(packet, tracked)
        except Malformed:
            outcomes["malformed"] += 1
        except BaseException as error:
            raise AssertionError(f"{error!r} from {packet.hex()}") from error
        else:
            outcomes["read"] += 1
            assert all(0 <= number < 2**64 for number in numbers), packet.hex()
        slowest = max(slowest, time.thread_time() - started)
        assert len(tracked.changes) <= len(packet), packet.hex()
        assert sum(map(len, tracked.changes)) <= 6 * len(packet), packet.hex()
        assert len(tracked.characteristics) <= len(packet)
    print(outcomes, f"slowest {slowest * 1e6:.0f} µs")
    assert min(outcomes.values()) > FUZZED // 50
    assert slowest < 0.1


HUGE = 4 << 20
UNITS = {
    "states": b"\2\1\x31",
    "nothing": b"\2\0",
    "variables": b"\0\4\1a\1b",
    "noise": b"\0\x0f\x0cstatement_id\1\x31",
    "transactions": b"\5\x09\x08________",
    "unknown": b"\x63\0",
    "modes": b"\0\x0a\x08sql_mode\0",
}


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_a_huge_packet_costs_what_its_size_says(unit):
    """Four megabytes of the smallest records take seconds at most, and memory in proportion."""
    block = unit * (HUGE // len(unit))
    packet = b"\0\0\0\0\x40\0\0\0\xfe" + len(block).to_bytes(8, "little") + block
    tracked = Tracked(Dialect.MYSQL)
    started = time.process_time()
    parse(packet, tracked)
    assert time.process_time() - started < 10
    small = unit * 10_000
    tracemalloc.start()
    try:
        Tracked(Dialect.MYSQL).take_in(small)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(small) + 10_000


def test_a_record_that_is_all_variables():
    """MariaDB puts several variables into one record: as many as its length says are read, in linear time."""
    content = b"\1a\1b" * 200_000
    tracked = Tracked(Dialect.MYSQL)
    started = time.process_time()
    tracked.take_in(b"\0\xfd" + len(content).to_bytes(3, "little") + content)
    assert tracked.changes == ["a"] * 200_000
    assert time.process_time() - started < 5
