"""KeyboardInterrupt at every point of this library where CPython may deliver one."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import rdsproxy_lib

PACKAGE = str(Path(rdsproxy_lib.__file__).parent)
_CALLS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW"}


class Interruption:
    """Runs a function and raises KeyboardInterrupt at its n-th point where a signal would be handled.

    CPython (3.11 and later) handles signals when a Python function begins, after a call of a C function, and when a
    loop jumps back; nowhere else. A point at the edge of a `try` is left out where a tracer cannot raise as
    the interpreter would.
    """

    def __init__(self, point: int) -> None:
        self.left = point
        self.where = ""
        self._last: dict[FrameType, int] = {}

    def __call__(self, function: Callable[[], Any]) -> bool:
        """Run it; True if the interrupt struck."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            function()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            self._last.clear()
        return bool(self.where)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_back is not None:
            self._last.pop(frame.f_back, None)  # the caller's call was one of a Python function
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or code.co_name == "<genexpr>":  # its end is no place to raise
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self._tick(frame)
        return self._trace_opcode

    def _trace_opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            here = frame.f_lasti
            last = self._last.get(frame)
            if last is not None and _is_point(frame.f_code, last, here):
                self._tick(frame)
            self._last[frame] = here
        elif event == "return":
            self._last.pop(frame, None)
        return self._trace_opcode

    def _tick(self, frame: FrameType) -> None:
        if self.where:
            return
        if not self.left:
            self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            raise KeyboardInterrupt
        self.left -= 1


_operations: dict[CodeType, dict[int, str]] = {}
_handlers: dict[CodeType, list[Any]] = {}


def _is_point(code: CodeType, last: int, here: int) -> bool:
    if code not in _operations:
        _operations[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
        _handlers[code] = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    name = _operations[code].get(last, "")
    if name == "JUMP_BACKWARD":
        return _handler(code, last) == _handler(code, here)
    return name in _CALLS and _handler(code, last) == _handler(code, here)


def _handler(code: CodeType, offset: int) -> int | None:
    return next((each.target for each in _handlers[code] if each.start <= offset < each.end), None)


def everywhere(make: Callable[[], Callable[[], Any]], check: Callable[[str], None]) -> int:
    """Interrupt a function at each of its points in turn; returns how many there are.

    `make` prepares a fresh world and returns the function; `check(where)` looks at that world after the interrupt.
    """
    point = 0
    while True:
        function = make()
        interruption = Interruption(point)
        if not interruption(function):
            return point
        del function
        check(interruption.where)
        point += 1
