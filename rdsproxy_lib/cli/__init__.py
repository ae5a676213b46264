"""The command line: `python -m rdsproxy_lib demo` and `explain`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import __version__
from ..secret import covered
from . import demo, explain


class _Parser(argparse.ArgumentParser):
    """Repeats no password of a URL that stands where none belongs."""

    def error(self, message: str) -> NoReturn:
        super().error(covered(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; argparse ends the program itself for a wrong argument (2)."""
    parser: argparse.ArgumentParser = _Parser(
        prog="python -m rdsproxy_lib",
        description="RDS Proxy inside your Python process: many client connections over few database connections.",
    )
    parser.add_argument("--version", action="version", version=f"rdsproxy_lib {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    demo.add_parser(commands)
    explain.add_parser(commands)
    chosen = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = chosen.run
    return run(chosen)
