"""The shape of the source: floors, cycles, purity, names, and what we rely on inside the driver."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import psycopg
import pymysql
import pytest
from psycopg import (
    _connection_base,
    _cursor_base,
    _pipeline_base,
    _preparing,
    _server_cursor_base,
    generators,
    transaction,
)

import rdsproxy_lib
from rdsproxy_lib.engines import mysql_wire
from rdsproxy_lib.faces import info
from rdsproxy_lib.faces import psycopg as face
from rdsproxy_lib.faces import pymysql as mysql_face
from rdsproxy_lib.faces import pymysql_exchange as mysql_exchange
from rdsproxy_lib.faces import pymysql_stream as mysql_stream

PACKAGE = Path(rdsproxy_lib.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"): path
    for path in PACKAGE.rglob("*.py")
}

FLOORS: dict[str, int] = {
    "errors": 10, "events": 10, "settings": 10,
    "sql_builtins": 10, "sql_finding": 10, "sql_lexer": 11, "sql_calls": 12, "sql_postgresql": 13,
    "sql_mysql_builtins": 12, "sql_mysql_lexer": 11, "sql_mysql": 13, "sql_mysql_literals": 13, "sql": 14,
    "stats": 10, "topology": 10, "endpoint_names": 10, "detection": 10, "secret": 9, "flights": 9,
    "config": 20, "session": 20, "explanation": 20, "routines": 20,
    "aws": 20, "credentials": 20, "trust": 21, "iam": 21, "secrets_manager": 21,
    "backend": 21, "pool": 22, "cluster": 22, "commits": 22, "named_host": 23, "monitor": 23, "planned": 23,
    "reading": 23, "readers": 24,
    "engines": 30, "engines/base": 31, "engines/descriptor": 31,
    "pinning": 34, "client": 35,
    "engines/mysql_tracking": 40, "engines/mysql_insert_id": 40, "engines/mysql_wire": 41,
    "engines/mysql_errors": 40, "engines/mysql_login": 40, "engines/mysql_parameters": 40, "engines/mysql": 42,
    "engines/mysql_settings": 40,
    "engines/mysql_audit": 41, "engines/mysql_reading": 41, "engines/mysql_topology": 40, "engines/mysql_commits": 40,
    "engines/postgresql_topology": 40, "engines/postgresql_commits": 40,
    "engines/postgresql": 42, "engines/postgresql_settings": 40, "engines/postgresql_audit": 41,
    "engines/postgresql_parameters": 40, "engines/postgresql_plans": 40, "engines/postgresql_ping": 40,
    "engines/postgresql_reading": 40,
    "faces": 30, "faces/lock": 41, "faces/guard": 41, "faces/info": 41, "faces/exchange": 41,
    "faces/psycopg": 43, "faces/mysql_statements": 41, "faces/mysql_held": 43, "faces/pymysql_stream": 43,
    "faces/pymysql_aftermath": 44, "faces/pymysql_exchange": 45, "faces/pymysql": 46,
    "targets": 49, "proxy": 50, "registry": 51,
    "psycopg": 60, "pymysql": 60, "__init__": 70,
}  # fmt: skip
"""A module imports from lower floors only. Command line and integrations stand on the roof."""
ROOF = 80
PURE = {
    "session", "settings", "config", "errors", "stats", "explanation", "topology", "endpoint_names", "detection",
    "secret",
}  # fmt: skip
"""With every module whose name begins with `sql`."""
IMPURE = {
    "time", "datetime", "threading", "_thread", "socket", "select", "selectors", "asyncio", "subprocess", "signal",
    "random",
    "psycopg", "pymysql", "boto3", "botocore", "os", "queue", "concurrent",
}  # fmt: skip
OWNERS = {
    "psycopg": ("engines/postgresql", "faces/", "psycopg", "cli/"),
    "pymysql": ("engines/mysql", "faces/", "pymysql", "cli/"),
    "boto3": ("aws",),
    "botocore": ("aws",),
    "wrapt": ("faces/guard", "install"),
}


def floor(module: str) -> int:
    if module.split("/")[0] in ("cli", "integrations", "__main__"):
        return ROOF
    return FLOORS[module]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(module: str) -> tuple[list[str], list[str]]:
    """What a module imports at run time, inside functions too: modules of ours, and other packages."""
    ours: list[str] = []
    others: list[str] = []
    tree = ast.parse(MODULES[module].read_text())
    package = [] if module == "__init__" else module.split("/")
    if package and MODULES[module].name != "__init__.py":
        package = package[:-1]

    def visit(node: ast.AST) -> None:
        if is_type_checking(node):
            return
        if isinstance(node, ast.Import):
            others.extend(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                others.append((node.module or "").split(".")[0])
            else:
                base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
                base = [part for part in base if part]
                name = "/".join(base)
                for alias in node.names:
                    inner = "/".join([*base, alias.name])
                    ours.append(inner if inner in MODULES else name or "__init__")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return [name for name in ours if name != module], others


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_floor(module):
    """A new module says where it stands."""
    floor(module)


def test_nobody_enters_a_condition():
    """Its `with` is Python, where an interrupt would leave the lock held: the lock that it is of is entered."""
    for name, path in MODULES.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        conditions = set()
        for node in nodes:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("threading.Condition("):
                assert ast.unparse(node.value) == "threading.Condition(self._lock)", name
                conditions.update(map(ast.unparse, node.targets))
        entered = {
            ast.unparse(item.context_expr) for node in nodes if isinstance(node, ast.With) for item in node.items
        }
        assert not conditions & entered, name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module):
    """No module imports, at any place that runs, from its own floor or from above."""
    for imported in imports(module)[0]:
        assert floor(imported) < floor(module) or floor(module) == ROOF, f"{module} imports {imported}"


def test_there_are_no_import_cycles():
    """No chain of imports leads back to where it began, those inside functions included."""
    above: list[str] = []
    done: set[str] = set()

    def visit(module: str) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module in done:
            return
        above.append(module)
        for imported in imports(module)[0]:
            visit(imported)
        above.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name in PURE or name.startswith("sql")))
def test_pure_modules_stay_pure(module):
    """They know no clock, no thread, no socket and no driver, and import only one another."""
    ours, others = imports(module)
    assert not set(others) & IMPURE
    for imported in ours:
        assert imported in PURE or imported.startswith("sql")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_third_party_packages_have_one_owner(module):
    """Only the owner of a package imports it."""
    for imported in imports(module)[1]:
        if imported in OWNERS:
            assert module.startswith(OWNERS[imported]), f"{module} imports {imported}"
        else:
            assert imported in sys.stdlib_module_names or floor(module) == ROOF, f"{module} imports {imported}"


def test_nothing_is_called_helpers():
    """Modules are named by nouns of the field."""
    assert not {Path(module).name for module in MODULES} & {
        "utils",
        "util",
        "helpers",
        "helper",
        "common",
        "misc",
        "core",
    }


def test_importing_starts_nothing_at_module_level():
    """No module makes a thread, a socket or a connection when it is imported."""
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Call):
                    assert ast.unparse(call.func) not in ("threading.Thread", "Thread", "socket.socket"), module


# -- the face


def test_what_we_add_has_one_prefix():
    """Every name of the face is the driver's own, `rdsproxy`, or begins with `_rdsproxy`."""
    ours = (
        (face.Connection, psycopg.Connection, INSTANCE_NAMES),
        (info.Info, psycopg.ConnectionInfo, INSTANCE_NAMES),
        (mysql_face.Connection, pymysql.connections.Connection, MYSQL_INSTANCE_NAMES),
        (mysql_exchange.Exchange, pymysql.connections.Connection, MYSQL_INSTANCE_NAMES),
        (mysql_stream.Stream, pymysql.connections.MySQLResult, set()),
        (mysql_wire.Wire, pymysql.connections.Connection, MYSQL_INSTANCE_NAMES),
        (mysql_wire.Result, pymysql.connections.MySQLResult, set()),
    )
    for cls, drivers, of_instances in ours:
        with_instance = set(dir(drivers)) | of_instances
        added = {name for name in vars(cls) if name not in with_instance and not name.startswith("__")}
        assert {name for name in added if name != "rdsproxy" and not name.startswith("_rdsproxy")} == set()


INSTANCE_NAMES = {
    "pgconn",
    "lock",
    "_prepared",
    "_notifies_backlog",
    "_closed",
    "_autocommit",
    "_pipeline",
    "_tpc",
    "row_factory",
}
"""What the driver's connections set on themselves and the face redefines on its class."""

MYSQL_INSTANCE_NAMES = {
    "cursorclass", "use_unicode", "decoders", "_read_timeout", "_write_timeout", "_result", "_affected_rows",
}  # fmt: skip
"""The same of PyMySQL's."""


def test_instance_names_are_the_drivers():
    """The names above exist on a connection of the driver."""
    conn = psycopg.Connection(face._CLOSED)
    try:
        assert {name for name in INSTANCE_NAMES if not hasattr(conn, name)} == set()
    finally:
        conn._pool = None
    conn = pymysql.connections.Connection(defer_connect=True, ssl_disabled=True)
    assert {name for name in MYSQL_INSTANCE_NAMES if not hasattr(conn, name)} == set()


# -- inside the driver: a new version that moves one of these breaks here, not at a customer's

GENERATORS = {
    _connection_base.BaseConnection: {
        "_commit_gen": ["self"],
        "_rollback_gen": ["self"],
        "_set_autocommit_gen": None,
        "_set_isolation_level_gen": None,
        "_set_read_only_gen": None,
        "_set_deferrable_gen": None,
        "_tpc_begin_gen": ["self", "xid"],
        "_tpc_prepare_gen": ["self"],
        "_tpc_finish_gen": ["self", "action", "xid"],
        "_exec_command": ["self", "command", "result_format"],
    },
    transaction.BaseTransaction: {"_enter_gen": ["self"], "_exit_gen": ["self", "exc_type", "exc_val", "exc_tb"]},
    _pipeline_base.BasePipeline: {"_enter_gen": ["self"], "_exit_gen": None, "_sync_gen": None},
    _cursor_base.BaseCursor: {
        "_execute_gen": ["self", "query", "params", "prepare", "binary"],
        "_executemany_gen_pipeline": ["self", "query", "params_seq", "returning"],
        "_executemany_gen_no_pipeline": ["self", "query", "params_seq", "returning"],
        "_stream_send_gen": None,
        "_stream_fetchone_gen": None,
        "_start_copy_gen": ["self", "statement", "params"],
    },
    _server_cursor_base.ServerCursorMixin: {"_close_gen": ["self"], "_declare_gen": None, "_fetch_gen": None},
}


@pytest.mark.parametrize(
    ("cls", "name", "parameters"),
    [(cls, name, parameters) for cls, names in GENERATORS.items() for name, parameters in names.items()],
    ids=lambda value: getattr(value, "__name__", None) or (value if isinstance(value, str) else ""),
)
def test_the_drivers_generators_are_as_we_know_them(cls, name, parameters):
    """They exist, are generators of Python, and their first argument is called `self`."""
    function = getattr(cls, name)
    assert inspect.isgeneratorfunction(function)
    names = list(inspect.signature(function).parameters)
    assert names[0] == "self"
    if parameters is not None:
        assert names == parameters


@pytest.mark.parametrize("name", ["copy_to", "copy_end", "notifies"])
def test_generators_that_take_the_wire_are_functions_of_python(name):
    """The face makes them anew for the backend it borrowed, by the names of their arguments."""
    function = getattr(generators, name)
    assert inspect.isgeneratorfunction(function)
    assert next(iter(inspect.signature(function).parameters)) == "pgconn"


PRIVATE_NAMES = {
    psycopg.Connection: {"wait", "_check_connection_ok", "_should_cancel", "_try_cancel", "cancel_safe", "_cancel_gen"},
    _connection_base.BaseConnection: {
        "_notice_handler", "_notify_handler", "_check_tpc", "_get_tx_start_command", "_start_query",
    },
    transaction.BaseTransaction: {"_pop_savepoint", "_push_savepoint", "Status", "savepoint_name"},
    _preparing.PrepareManager: {"get", "maybe_add_to_cache", "validate", "clear", "maintain_gen"},
    psycopg.errors: {"_WaitTimeout", "TransactionResolutionUnknown", "ObjectNotInPrerequisiteState"},
    pymysql.connections.Connection: {
        "_sock", "_rfile", "_closed", "_execute_command", "_read_ok_packet", "_read_query_result", "_read_packet",
        "_force_close", "_send_autocommit_mode", "_escape_string",
    },
    pymysql.connections.MySQLResult: {
        "read", "init_unbuffered_query", "_read_ok_packet", "_check_packet_is_eof", "_get_descriptions",
        "_read_load_local_packet", "_read_rowdata_packet_unbuffered", "_finish_unbuffered_query",
    },
    pymysql.protocol.MysqlPacket: {"is_ok_packet"},
}  # fmt: skip


@pytest.mark.parametrize(("owner", "names"), PRIVATE_NAMES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_private_names_we_rely_on_exist(owner, names):
    """Each is still there."""
    assert {name for name in names if not hasattr(owner, name)} == set()


def test_slots_and_attributes_we_rely_on_exist():
    """Cursors keep their pgconn in a slot, transactions and caches their state under these names."""
    assert "_pgconn" in _cursor_base.BaseCursor.__slots__
    assert {"prepare_threshold", "prepared_max", "_names", "_to_flush"} <= set(dir(_preparing.PrepareManager()))
    conn = psycopg.Connection(face._CLOSED)
    try:
        assert {
            "_autocommit",
            "_closed",
            "_tpc",
            "_pipeline",
            "_num_transactions",
            "_prepared",
            "_notifies_backlog",
            "pgconn",
        } <= set(vars(conn))
        block = psycopg.Transaction(conn)
        assert {"_conn", "pgconn", "status", "force_rollback", "_outer_transaction", "_stack_index"} <= set(vars(block))
    finally:
        conn._pool = None


def test_pymysqls_connection_keeps_its_state_where_we_look_for_it():
    """Its attributes, and what its result keeps, have these names."""
    conn = pymysql.connections.Connection(defer_connect=True, ssl_disabled=True)
    assert {"autocommit_mode", "decoders", "encoders", "encoding", "charset", "collation", "_result"} <= set(vars(conn))
    packet = pymysql.protocol.MysqlPacket(b"\0" * 7, "ascii")
    assert packet._data == b"\0" * 7
    result = pymysql.connections.MySQLResult(conn)
    names = {"connection", "affected_rows", "insert_id", "server_status", "warning_count", "message", "field_count",
             "description", "rows", "has_next", "unbuffered_active"}  # fmt: skip
    assert names <= set(vars(result))


TALKING = {
    "_get_server_information", "_request_authentication", "_process_auth", "_send_autocommit_mode", "begin", "commit",
    "connect", "next_result", "ping", "query", "rollback", "select_db", "set_character_set", "show_warnings",
    "_execute_command", "_read_ok_packet", "close", "_read_packet", "_read_bytes",
    "_write_bytes", "write_packet", "_force_close",
}  # fmt: skip
"""PyMySQL's methods that send or receive: each is overridden by the face, or is below one that is."""


def test_pymysql_talks_to_the_server_in_the_methods_we_know():
    """A new method that sends or reads by itself would do so on no socket: it has to be looked at."""
    wires = {"_execute_command", "_read_packet", "_read_ok_packet", "_read_query_result", "_sock", "_rfile",
             "write_packet", "_write_bytes"}  # fmt: skip
    tree = ast.parse(inspect.getsource(pymysql.connections.Connection))
    found = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(node, ast.Attribute) and node.attr in wires for node in ast.walk(function))
    }
    assert found - {"__init__", "open"} == TALKING


def test_pymysqls_cursors_only_ask_their_connection():
    """They use nothing of it but these names, so that they need no change."""
    tree = ast.parse(inspect.getsource(pymysql.cursors))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "conn"
    }
    assert used <= {"_result", "escape", "next_result", "query"}


KNOWN_UNLOCKED: set[tuple[str, str]] = {
    # Copy objects live inside `with conn.lock:` of Cursor.copy().
    ("_copy", "finish"),
    ("_copy", "read"),
    ("_copy", "read_row"),
    ("_copy", "_put"),
}
"""Functions whose `wait` is under the lock of their callers."""


def waits_outside_a_lock() -> set[tuple[str, str]]:
    """(module, function) of each `….wait(…)` of the driver's sync modules that is not inside `with ….lock:`."""
    found: set[tuple[str, str]] = set()
    for path in Path(psycopg.__file__).parent.glob("*.py"):
        if "async" in path.name or path.stem in ("waiting", "_acompat"):
            continue

        def visit(node: ast.AST, function: str, is_locked: bool, module: str) -> None:
            if isinstance(node, ast.AsyncFunctionDef) or (isinstance(node, ast.ClassDef) and "Async" in node.name):
                return
            if isinstance(node, ast.FunctionDef):
                function, is_locked = node.name, False
            if isinstance(node, ast.With):
                is_locked = is_locked or any("lock" in ast.unparse(item.context_expr) for item in node.items)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "wait":
                whose = ast.unparse(node.func.value)
                if whose.split(".")[-1] in ("self", "_conn", "connection", "conn") and not is_locked:
                    found.add((module, function))
            for child in ast.iter_child_nodes(node):
                visit(child, function, is_locked, module)

        visit(ast.parse(path.read_text()), "", False, path.stem)
    return found


def test_the_driver_waits_under_its_lock():
    """The face gives a backend back at the end of the lock, so every exchange has to be inside one."""
    assert waits_outside_a_lock() == KNOWN_UNLOCKED
