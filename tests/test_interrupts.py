"""No loop of the package can be interrupted out of the block that it stands in, with a lock still locked.

From Python 3.12 on, the compiler leaves the jump back of some loops, above all of comprehensions, out of the ``with`` and the
``try`` around them. An interrupt (Ctrl-C) is raised at such a jump. So the lock of a `session_manager.manager.SessionManager`
stayed locked, and every later call of it was refused.
"""

from __future__ import annotations

import dis
import inspect
import sys
import textwrap
from types import CodeType

import pytest

from tests.support.places import ROOT

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has begun it")

#: Blocks that may be left without their end: they suppress an error, or close a file that is closed anyway.
HARMLESS = {"CleanMark.put_back", "FoundFile.pieces", "is_strange_log", "read_responses"}


def functions(code):
    """Return the code of all functions, but for coroutines: a loop of asyncio or trio says where those are interrupted."""
    if not code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from functions(one)


def is_comprehensions(handler):
    """Say whether a handler only puts back what a comprehension has hidden."""
    return handler.opname != "PUSH_EXC_INFO"


def unguarded(code):
    """Return the lines of jumps back that are in a block, and that its end would not be run for."""
    table = dis._parse_exception_table(code)
    instructions = {one.offset: one for one in dis.get_instructions(code)}
    blocks = {}
    for entry in table:
        if not is_comprehensions(instructions[entry.target]):
            start, end = blocks.get(entry.target, (entry.start, entry.end))
            blocks[entry.target] = (min(start, entry.start), max(end, entry.end))

    def is_guarded(offset):
        return any(entry.start <= offset < entry.end for entry in table)

    for offset, one in instructions.items():
        is_in_a_block = any(start < offset < end for start, end in blocks.values())
        if one.opname == "JUMP_BACKWARD" and is_in_a_block and is_guarded(one.argval) and not is_guarded(offset):
            yield one.positions.lineno or code.co_firstlineno


def found(text, name):
    return [(code.co_qualname, line) for code in functions(compile(text, name, "exec")) for line in unguarded(code)]


def test_no_block_is_left_by_an_interrupt_without_its_end():
    left = {}
    for file in sorted((ROOT / "session_manager").rglob("*.py")):
        if "testing" not in file.parts:
            left |= {f"{file.name}:{line}": name for name, line in found(file.read_text(), file.name)}
    assert {place: name for place, name in left.items() if name not in HARMLESS} == {}
    assert set(left.values()) <= HARMLESS


def test_a_comprehension_under_a_lock_is_noticed():
    """As it stood in `KeyedLocks.locks_of`."""
    text = """
    def locks_of(self):
        with self.lock:
            there = [lock for reference in self.locks.values() if (lock := reference()) is not None]
            return there
    """
    assert found(textwrap.dedent(text), "x") == [("locks_of", 4)]
