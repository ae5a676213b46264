"""What servers answer when they are asked who they are: recorded rows, and what is asked where less is allowed."""

from __future__ import annotations

import json

import pytest
from pymysql.constants import ER

from rdsproxy_lib.engines import mysql_topology as mysql
from rdsproxy_lib.engines import postgresql_topology as postgresql
from rdsproxy_lib.topology import Answer, Listed, Role

# -- MySQL

STATUS = {
    "replica_io_state": "Waiting for source to send event",
    "source_host": "10.0.1.7",
    "source_server_id": 1001,
    "replica_io_running": "Yes",
    "replica_sql_running": "Yes",
    "seconds_behind_source": 3,
}
OLD_STATUS = {"slave_io_state": "", "master_host": "10.0.1.7", "master_server_id": 1001, "seconds_behind_master": 0}
TOPOLOGY = [
    {"id": 1001, "endpoint": "shop-instance-1.c1a2b3.eu-west-1.rds.amazonaws.com", "port": 3306},
    {"id": 1002, "endpoint": "shop-instance-2.c1a2b3.eu-west-1.rds.amazonaws.com", "port": 3306},
]


def replica_host_status(asked: str) -> list[dict[str, object]]:
    """What Aurora's table answers on one of its instances; the lag is a float there, and 0 for the writer."""
    rows = [("shop-1", 1, 0.0), ("shop-2", 0, 19.5), ("shop-3", 0, None)]
    return [
        {
            "server_id": name,
            "is_writer": is_writer,
            "is_asked": int(name == asked),
            "replica_lag_in_milliseconds": lag,
            "report_age": 500_000,
        }
        for name, is_writer, lag in rows
    ]


@pytest.mark.parametrize(
    ("values", "is_reader"),
    [((0, 0), False), ((1, 0), True), ((0, 1), True), (("OFF", 0), False), (("ON", 0), True), (("NO_LOCK", 0), True)],
)
def test_a_server_that_is_read_only_in_any_way_is_a_reader(values, is_reader):
    """MySQL has numbers, MariaDB from 11.8 on words."""
    assert mysql.is_read_only(values) is is_reader


@pytest.mark.parametrize(
    ("status", "lag"),
    [
        ([], None),
        ([STATUS], 3.0),
        ([OLD_STATUS], 0.0),
        ([{**STATUS, "seconds_behind_source": None}], None),
        ([STATUS, {**STATUS, "seconds_behind_source": 8}], 8.0),
        ([STATUS, {**STATUS, "seconds_behind_source": None}], None),
    ],
)
def test_how_far_a_replica_is_behind(status, lag):
    """The furthest of its channels; NULL, where one does not run, is not known."""
    assert mysql.answered(mysql.PLAIN, True, status) == Answer(Role.READ_ONLY, lag=lag)


def test_a_plain_server_that_takes_writes_is_the_writer():
    """Its status was not asked for."""
    assert mysql.answered(mysql.PLAIN, False, []) == Answer(Role.READ_WRITE)


@pytest.mark.parametrize(
    ("is_reader", "status", "role"),
    [
        (False, [], Role.READ_WRITE),
        (True, [STATUS], Role.READ_ONLY),
        (False, [STATUS], Role.READ_ONLY),
        (False, [{**STATUS, "source_server_id": 77}], Role.READ_WRITE),
        (True, [], Role.READ_ONLY),
    ],
)
def test_who_follows_a_member_of_its_cluster_is_a_reader(is_reader, status, role):
    """Even if it takes writes. The writer may follow a server outside."""
    assert mysql.answered(mysql.MULTI_AZ, is_reader, status, TOPOLOGY).role is role


def test_the_hosts_of_a_multi_az_cluster():
    """Identifiers, which their names begin with, and ports; how far they lag each knows itself."""
    assert mysql.hosts(mysql.MULTI_AZ, TOPOLOGY) == (
        Listed("shop-instance-1", 3306),
        Listed("shop-instance-2", 3306),
    )


def test_the_hosts_of_aurora():
    """Identifiers, and the lag of the readers, which is NULL where none is known."""
    rows = replica_host_status("shop-1")
    assert mysql.hosts(mysql.AURORA, rows) == (
        Listed("shop-1"),
        Listed("shop-2", lag=0.0195),
        Listed("shop-3"),
    )


@pytest.mark.parametrize(
    ("asked", "is_reader", "answer"),
    [
        ("shop-1", False, Answer(Role.READ_WRITE)),
        ("shop-2", True, Answer(Role.READ_ONLY, lag=0.0195)),
        ("shop-3", True, Answer(Role.READ_ONLY)),
        # It was promoted, and the table does not say so yet; and a writer that is one no more.
        ("shop-2", False, Answer(Role.READ_ONLY, lag=0.0195)),
        ("shop-1", True, Answer(Role.READ_ONLY)),
        ("shop-9", False, Answer(Role.READ_ONLY)),
    ],
)
def test_who_is_auroras_writer(asked, is_reader, answer):
    """Who takes writes and has the writer's row in the table it tells itself."""
    assert mysql.answered(mysql.AURORA, is_reader, replica_host_status(asked)) == answer


@pytest.mark.parametrize(("asked", "staleness"), [("shop-1", None), ("shop-2", 0.5195), ("shop-3", None)])
def test_what_auroras_readers_show_is_as_old_as_the_report_of_their_lag(asked, staleness):
    """Both together count; what is not known, or comes from another time zone, is no proof."""
    rows = replica_host_status(asked)
    assert mysql.staleness(mysql.AURORA, rows) == staleness
    assert mysql.staleness(mysql.AURORA, [{**row, "report_age": -7_199_500_000} for row in rows]) is None
    assert mysql.staleness(mysql.AURORA, [{**row, "report_age": None} for row in rows]) is None
    assert mysql.staleness(mysql.AURORA, []) is None


def test_the_lag_of_a_replica_is_no_proof():
    """Nor is that of a cluster with a list of its own."""
    assert mysql.staleness(mysql.PLAIN, []) is None
    assert mysql.staleness(mysql.MULTI_AZ, TOPOLOGY) is None


def test_what_is_refused_is_not_asked_again():
    """One question goes, the others stay; an older server is asked in older words first."""
    less = mysql.without(mysql.MULTI_AZ, mysql.MULTI_AZ.status, ER.SPECIFIC_ACCESS_DENIED_ERROR)
    assert (less.status, less.members) == ("", mysql.MULTI_AZ.members)
    assert mysql.answered(less, False, []).role is Role.READ_WRITE
    less = mysql.without(less, less.members, ER.TABLEACCESS_DENIED_ERROR)
    assert (less.status, less.members) == ("", "")
    old = mysql.without(mysql.PLAIN, mysql.PLAIN.status, ER.PARSE_ERROR)
    assert old.status == "SHOW SLAVE STATUS"
    assert mysql.without(old, old.status, ER.PARSE_ERROR).status == ""
    aurora = mysql.without(mysql.AURORA, mysql.AURORA.members, ER.UNKNOWN_TABLE)
    assert (aurora.status, aurora.members) == ("", "")
    assert mysql.answered(aurora, True, []) == Answer(Role.READ_ONLY)
    assert mysql.without(mysql.PLAIN, mysql.PLAIN.status, ER.SERVER_SHUTDOWN) is None


# -- PostgreSQL


@pytest.mark.parametrize(
    ("row", "source"),
    [
        ([None, False], postgresql.PLAIN),
        ([False, False], postgresql.PLAIN),
        ([False, True], postgresql.MULTI_AZ),
        ([True, False], postgresql.AURORA),
        ([True, True], postgresql.AURORA),
    ],
)
def test_what_kind_of_server_it_is(row, source):
    """Aurora goes before, as it has the extension of the others too."""
    assert postgresql.detected([json.dumps(row)]) is source


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ('["00000001", null]', Answer(Role.READ_WRITE, 1)),
        ('["0000001F", null]', Answer(Role.READ_WRITE, 31)),
        ('["0", null]', Answer(Role.READ_WRITE, 0)),
        ("[null, null]", Answer(Role.READ_ONLY)),
        ("[null, 0]", Answer(Role.READ_ONLY, lag=0.0)),
        ("[null, 12.5]", Answer(Role.READ_ONLY, lag=12.5)),
        ("[null, -0.001]", Answer(Role.READ_ONLY, lag=0.0)),
    ],
)
def test_what_a_server_says_of_itself(row, answer):
    """The timeline of a writer, in hexadecimal; the lag of a standby, whose clock may be ahead."""
    assert postgresql.answered([row]) == answer


def test_the_hosts_a_server_lists():
    """Aurora's with their lag, a Multi-AZ DB cluster's with their ports."""
    rows = ['["shop-1", null, null]', '["shop-2", null, 0.0195]', '["shop-3", 5432, null]']
    assert postgresql.hosts(rows) == (Listed("shop-1"), Listed("shop-2", lag=0.0195), Listed("shop-3", 5432))


@pytest.mark.parametrize(
    ("rows", "staleness"), [(["[0.5195]"], 0.5195), (["[null]"], None), (["[-0.1]"], 0.0), ([], None)]
)
def test_how_old_what_a_reader_shows_may_be(rows, staleness):
    """None where nothing is asked, or nothing known; clocks differ a little."""
    assert postgresql.staleness(rows) == staleness


@pytest.mark.parametrize("source", [postgresql.AURORA, postgresql.MULTI_AZ, postgresql.PLAIN])
def test_where_less_is_allowed_less_is_asked(source):
    """Each kind of server falls back to one of which less is asked, down to what any server tells anybody."""
    asked = [source]
    while asked[-1].fallback is not None:
        asked.append(asked[-1].fallback)
    assert asked[-1] is postgresql.BARE
    assert not asked[-1].members
