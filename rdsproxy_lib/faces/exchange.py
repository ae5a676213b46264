"""What one exchange of psycopg is: read from the generator that carries it.

psycopg hands every conversation with the server to `conn.wait()` as a generator of its own; its code tells the kind,
its first argument who asks, and its locals the user's statement before any parameter goes in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg._copy_base import BaseCopy
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import copy_end, copy_to, notifies
from psycopg.sql import Composable
from psycopg.transaction import BaseTransaction

from ..sql import Statement, classify, classify_uncached

if TYPE_CHECKING:
    from .psycopg import Connection

EXECUTE_GEN = BaseCursor._execute_gen.__code__
STREAM_GEN = BaseCursor._stream_send_gen.__code__
COPY_GEN = BaseCursor._start_copy_gen.__code__
ROLLBACK_GEN = BaseConnection._rollback_gen.__code__
EXIT_GEN = BaseTransaction._exit_gen.__code__
ENTER_PIPELINE_GEN = BasePipeline._enter_gen.__code__
TPC_FINISH_GEN = BaseConnection._tpc_finish_gen.__code__
CLOSE_CURSOR_GEN = ServerCursorMixin._close_gen.__code__
DECLARE_GEN = ServerCursorMixin._declare_gen.__code__

SILENT_WHEN_PARKED = frozenset(
    generator.__code__
    for generator in (
        BaseConnection._commit_gen,
        BaseConnection._rollback_gen,
        BaseConnection._set_autocommit_gen,
        BaseConnection._set_isolation_level_gen,
        BaseConnection._set_read_only_gen,
        BaseConnection._set_deferrable_gen,
    )
)
"""The driver's generators that send nothing when no transaction is open."""

SPECIAL_WHEN_PARKED = SILENT_WHEN_PARKED | {CLOSE_CURSOR_GEN, EXIT_GEN}

COMMITTING = frozenset(
    generator.__code__
    for generator in (BaseConnection._commit_gen, BaseConnection._tpc_prepare_gen, BaseConnection._tpc_finish_gen)
)
MANY = frozenset(
    generator.__code__ for generator in (BaseCursor._executemany_gen_pipeline, BaseCursor._executemany_gen_no_pipeline)
)

FIRST_OWN = 16384
"""The least number of what the server did not bring along."""

BEGINNING = frozenset({STREAM_GEN, BaseCursor._start_copy_gen.__code__})
"""The driver's generators that begin a statement whose rows come, or go, in exchanges of their own."""
MIDWAY = frozenset(
    generator.__code__ for generator in (BaseCursor._stream_fetchone_gen, BaseCopy._read_gen, copy_to, copy_end)
)
"""Those exchanges."""

WIRE_FUNCTIONS = {function.__code__: function for function in (copy_to, copy_end, notifies)}
"""Generators of the driver that are given the libpq connection itself."""


class Idle:
    """What the driver's generators that send nothing look at instead of a libpq connection."""

    transaction_status = int(pq.TransactionStatus.IDLE)


NOBODY = Idle()


def statement_of(connection: Connection[Any], cursor: BaseCursor[Any, Any], names: dict[str, Any]) -> Statement | None:
    """What the statement of this exchange does to the session; None where it carries none of the user's."""
    query = names.get("query") or names.get("statement")
    dialect = connection._rdsproxy.login.dialect
    if query is None:
        return None
    if isinstance(query, str):
        return classify(query, dialect)
    # What was composed may hold literals: read it, but keep it out of the cache.
    text = text_of(connection, cursor, query)
    return None if text is None else classify_uncached(text, dialect)


def text_of(connection: Connection[Any], cursor: BaseCursor[Any, Any], query: Any) -> str | None:
    """A query of any of the driver's kinds as it is sent; None where the driver is about to refuse it."""
    if isinstance(query, str):
        return query
    try:
        if isinstance(query, Composable):
            query = query.as_bytes(connection)
        elif not isinstance(query, bytes):  # a template string: as the driver will send it
            converted = cursor._query_cls(psycopg.adapt.Transformer(connection))
            converted.convert(query, None)
            query = converted.query
    except Exception:
        return None  # with its own error
    text: str = query.decode(connection._rdsproxy_pgconn()._encoding, "replace")
    return text


def commits(code: Any, who: Any, names: dict[str, Any], statement: Statement | None) -> bool:
    """Whether this exchange can have made a transaction's work permanent."""
    if code in COMMITTING:
        return names.get("action") != "ROLLBACK"
    if code is EXIT_GEN:
        return names.get("exc_val") is None and not who.force_rollback and bool(who._outer_transaction)
    return (
        statement is not None
        and statement.ends_transaction
        and any(part.ends_transaction and part.verb not in ("ROLLBACK", "ABORT") for part in statement.parts)
    )


def is_plain_rollback(statement: Statement | None) -> bool:
    """Whether the text is a ROLLBACK and nothing else."""
    return (
        statement is not None
        and len(statement.parts) == 1
        and statement.ends_transaction
        and statement.parts[0].verb in ("ROLLBACK", "ABORT")
    )


def is_swallowed(transaction: BaseTransaction[Any], names: dict[str, Any]) -> bool:
    """Whether the exception that leaves a transaction block was a Rollback meant for it, which ends there."""
    error = names.get("exc_val")
    return isinstance(error, psycopg.Rollback) and error.transaction in (None, transaction)


def rewired(function: Any, code: Any, names: dict[str, Any], pgconn: Any) -> Any:
    """The same exchange, not begun yet, on another libpq connection."""
    arguments = {name: names[name] for name in code.co_varnames[: code.co_argcount]}
    return function(**{**arguments, "pgconn": pgconn})


def own_types(cursor: Any, parameters: Any) -> frozenset[str]:
    """The numbers of types that users made, among those which the driver gives to parameters: no text shows them."""
    if not isinstance(parameters, Mapping | Sequence):
        return frozenset()
    transformer, numbers = Transformer(cursor), set()
    for value in parameters.values() if isinstance(parameters, Mapping) else parameters:
        with suppress(Exception):  # what the driver refuses, it refuses again
            numbers.add(0 if value is None else transformer.get_dumper(value, PyFormat.AUTO).oid)
    return frozenset(str(number) for number in numbers if number >= FIRST_OWN)
