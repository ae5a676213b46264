"""``python -m rdsproxy_lib explain SQL``: what a text does to multiplexing. Status 1 when it pins, else 0."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..explanation import explain
from ..secret import covered


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parsers of the main one; ``args.run`` is then :func:`run`."""
    parser = subparsers.add_parser(
        "explain",
        help="what a statement does to multiplexing, and why",
        description="Says of each statement whether it pins its session to one database connection, and how to "
        "avoid it. Nothing is sent to a server. Exit status 1 when something pins, 0 otherwise.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("sql", nargs="?", default="-", metavar="SQL", help="the text; - or nothing: standard input")
    source.add_argument("--file", type=Path, metavar="F", help="read the text from this file")
    parser.add_argument("--engine", default="postgresql", help="postgresql (default), or mysql for MariaDB too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the explanation. The exit status is returned: 0 free, 1 pins, 2 the question cannot be read."""
    try:
        explanation = explain(_text(args), args.engine)
    except (OSError, ValueError) as error:
        print(covered(f"explain: {error}"), file=sys.stderr)
        return 2
    text = json.dumps(explanation.as_dict(), indent=2, ensure_ascii=False) if args.json else str(explanation)
    print(covered(text))
    return 1 if explanation.pins else 0


def _text(args: argparse.Namespace) -> str:
    if args.file is not None:
        return str(args.file.read_text(encoding="utf-8"))
    return sys.stdin.read() if args.sql == "-" else str(args.sql)
