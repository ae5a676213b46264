"""Questions to others that may take their time: each in a thread of its own, one for all who want to know the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Flights(Generic[Answer]):
    """The questions that are under way. Safe for use from many threads."""

    def __init__(self, name: str) -> None:
        """`name` is that of the threads."""
        self._name = name
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child none is."""
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[Answer]] = {}

    def start(self, key: Hashable, ask: Callable[[], Answer]) -> Future[Answer]:
        """The question of that key: the one that is under way, else `ask`, begun now."""
        with self._lock:
            flight = self._under_way.get(key)
            if flight is not None:
                return flight
            flight = Future()
            thread = threading.Thread(target=self._run, args=(key, ask, flight), name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads just now: who asks does it
                pass
            else:
                self._under_way[key] = flight  # now, so that an interrupt leaves none behind that nobody answers
                return flight
        self._run(key, ask, flight)
        return flight

    def _run(self, key: Hashable, ask: Callable[[], Answer], flight: Future[Answer]) -> None:
        try:
            answer = ask()
        except BaseException as error:
            self._end(key)
            flight.set_exception(error)
        else:
            self._end(key)  # first: who asks after the answer begins another one
            flight.set_result(answer)

    def _end(self, key: Hashable) -> None:
        with self._lock:
            self._under_way.pop(key, None)
