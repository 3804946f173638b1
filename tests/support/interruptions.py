"""Interrupts at each point of a call at which a signal handler may run, in turn.

CPython runs a handler at the beginning of a function, at a jump back, and after a call of C code. A trace function raises there.
"""

from __future__ import annotations

import contextlib
import dis
import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from tests.support.places import ROOT

__all__ = ["CAN_INTERRUPT", "interrupted"]

#: Before Python 3.11, code does not tell where these points are. From 3.13 on, a function's instructions are traced from its second run on.
CAN_INTERRUPT = (3, 11) <= sys.version_info < (3, 13)
_PACKAGE = str(ROOT / "session_manager")
_POINTS = {"RESUME", "JUMP_BACKWARD", "CALL", "CALL_FUNCTION_EX"}


class _Code:
    """The instructions of a function, and the blocks that they stand in."""

    def __init__(self, code: CodeType) -> None:
        self._names = {one.offset: one.opname for one in dis.get_instructions(code)}
        self._blocks = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def is_point(self, before: int, now: int) -> bool:
        """Say whether an interrupt may come between two instructions; not at the end of a block, where it would come within it."""
        return self._names.get(before) in _POINTS and self._handler(before) == self._handler(now)

    def _handler(self, offset: int) -> int | None:
        return next((one.target for one in self._blocks if one.start <= offset < one.end), None)


_codes: dict[CodeType, _Code] = {}


class _Interrupt:
    def __init__(self, number: int, error: BaseException) -> None:
        self._left, self._error = number, error
        #: The instruction that each frame has run last; -1: a call of Python code, after which no handler runs.
        self._last: dict[FrameType, int] = {}

    def enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if frame.f_back in self._last:
            self._last[frame.f_back] = -1
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step

    def step(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "opcode":
            code = _codes.get(frame.f_code) or _codes.setdefault(frame.f_code, _Code(frame.f_code))
            is_point = code.is_point(self._last.get(frame, -1), frame.f_lasti)
            self._last[frame] = frame.f_lasti
            self._left -= is_point
            if is_point and not self._left:
                raise self._error
        return self.step


def interrupted(call: Callable[[], object], number: int, error: BaseException | None = None) -> bool:
    """Make a call, and interrupt it at its n-th point; say whether it has as many.

    :param number: from 1.
    :param error: what is raised there; if missing, `KeyboardInterrupt`.
    """
    error = KeyboardInterrupt() if error is None else error
    interrupt, before = _Interrupt(number, error), sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for such a frame when it begins to trace
    gc.disable()  # an interrupt in a finalizer of something else would be swallowed
    with contextlib.suppress(type(error)):
        sys.settrace(interrupt.enter)
        try:
            call()
        finally:
            sys.settrace(before)
            gc.enable()
    return interrupt._left <= 0
