"""An eye that looks for planted secrets wherever an application, its log or its reports of errors may show one."""

from __future__ import annotations

import logging
import pprint
import reprlib
import secrets
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import psutil
import psycopg
import pymysql

import rdsproxy_lib

PACKAGE = Path(rdsproxy_lib.__file__).parent
PACKAGES = (PACKAGE, Path(psycopg.__file__).parent, Path(pymysql.__file__).parent)
SHORT = 60
"""Characters of a text that reports of errors show of it."""


class Eye(logging.Handler):
    """Everything logged is looked at while `with eye.open():`, in the thread that logs it; the rest, when it is shown.

    found: what was seen, and where. looked: how often, by kind of place.
    """

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.plants: dict[str, str] = {}
        self.found: set[str] = set()
        self.looked: Counter[str] = Counter()
        self._here = threading.local()

    def plant(self, name: str, text: str = "") -> str:
        """A text that nobody is to see, by the name that it is reported under; random unless given."""
        self.plants[name] = text or f"planted{secrets.token_hex(12)}"
        return self.plants[name]

    def look(self, where: str, text: str) -> None:
        """Look at a text."""
        self.looked[where.partition(":")[0]] += 1
        for name, planted in list(self.plants.items()):
            if planted in text:
                self.found.add(f"{name} | {where}")

    def show(self, where: str, thing: object) -> None:
        """Look at a thing as it prints itself, and as programs print it that shorten texts."""
        for text in (repr(thing), str(thing), pprint.pformat(thing), reprlib.repr(thing)):
            self.look(where, text)

    def show_error(self, where: str, error: BaseException | None) -> None:
        """Look at an error, what led to it, and what our frames and the drivers' had in their variables."""
        waiting, seen = [error], set()
        while waiting:
            error = waiting.pop()
            if error is None or id(error) in seen:
                continue
            seen.add(id(error))
            kind = type(error).__name__
            for each in (error, error.args, vars(error)):
                self.show(f"error: {where}: {kind}", each)
            self.look(f"error: {where}: {kind}", "".join(traceback.format_exception(error)))
            self.show_frames(f"frame: {where}: {kind}", error.__traceback__)
            more = [each for each in (*vars(error).values(), *error.args) if isinstance(each, BaseException)]
            waiting += [error.__cause__, error.__context__, *more]

    def show_frames(self, where: str, trace: TracebackType | None) -> None:
        """Look at the variables of our frames, and of the drivers', but for what of these is not multiplexed."""
        while trace is not None:
            code = trace.tb_frame.f_code
            root = next(filter(Path(code.co_filename).is_relative_to, PACKAGES), None)
            if root is not None and not code.co_filename.endswith("_async.py"):
                place = f"{Path(code.co_filename).relative_to(root)}:{trace.tb_lineno} {code.co_name}"
                for name, value in trace.tb_frame.f_locals.items():
                    with suppress(AttributeError):  # it was not made to its end
                        self.look(f"{where}: {place} {name}", repr(value))
                    if isinstance(value, str | bytes | list | tuple | dict):
                        self.look(f"{where}: {place} {name} in print", pprint.pformat(value))
                    if isinstance(value, str | bytes):
                        self.look(f"{where}: {place} {name} shortened", repr(value[:SHORT]))
            trace = trace.tb_next

    @contextmanager
    def fails(self, where: str, *kinds: type[BaseException]) -> Iterator[None]:
        """What is inside raises one of these, which is looked at."""
        try:
            yield
        except kinds as error:
            self.show_error(where, error)
        else:
            raise AssertionError(f"{where}: no {kinds} was raised")

    # What others can see

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(self._here, "is_shut", False):
            return
        where = f"log {record.name.partition('.')[0]}: {record.name}"
        self.show(where, vars(record))
        self.look(where, logging.Formatter("%(threadName)s %(message)s").format(record))
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        for each in arguments:
            self.show(where, each)
            self.show_error(where, each if isinstance(each, BaseException) else None)
        self.show_error(where, record.exc_info[1] if record.exc_info else None)

    def look_around(self) -> None:
        """Look at the names of threads, and at the arguments of child processes."""
        self.show("threads", [each.name for each in threading.enumerate()])
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                self.look("processes", " ".join(process.cmdline()))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within it all that is logged, at DEBUG, is looked at, and all warnings."""
        root = logging.getLogger()
        level = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                yield
            for each in warned:
                self.show("warning", each.message)
                self.look("warning", str(each))
        finally:
            root.setLevel(level)
            root.removeHandler(self)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Within it, what this thread logs is not the library's."""
        was_shut = getattr(self._here, "is_shut", False)
        self._here.is_shut = True
        try:
            yield
        finally:
            self._here.is_shut = was_shut
