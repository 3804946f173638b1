"""The errors: their tree, what they carry, and what the package exports."""

from __future__ import annotations

import contextlib
import copy
import enum
import gc
import pickle
import re
import types
import weakref

import pytest

import session_manager
from session_manager import errors
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    InvalidKeyError,
    SaveFailedError,
    SessionManagerError,
    SessionNotFoundError,
    raise_alone,
)
from session_manager.model.key import check_key
from tests.support.error_examples import EXAMPLES
from tests.support.strategies import CANARY, held_text

TREE = {
    "SessionManagerError": ("Exception",),
    "InvalidKeyError": ("SessionManagerError", "ValueError"),
    "InvalidMessageError": ("SessionManagerError", "ValueError"),
    "InvalidDataError": ("SessionManagerError", "ValueError"),
    "SessionNotFoundError": ("SessionManagerError", "KeyError"),
    "MessageNotFoundError": ("SessionManagerError", "KeyError"),
    "SessionExistsError": ("SessionManagerError", "ValueError"),
    "TurnNotFoundError": ("SessionManagerError", "LookupError"),
    "ContextTooSmallError": ("SessionManagerError", "ValueError"),
    "InvalidStorageError": ("SessionManagerError", "ValueError"),
    "ClosedError": ("SessionManagerError", "RuntimeError"),
    "ForkedError": ("SessionManagerError", "RuntimeError"),
    "ReadOnlyError": ("SessionManagerError", "RuntimeError"),
    "ReentrantCallError": ("SessionManagerError", "RuntimeError"),
    "WouldWaitError": ("SessionManagerError", "RuntimeError"),
    "SessionBusyError": ("SessionManagerError", "RuntimeError"),
    "ConflictError": ("SessionManagerError",),
    "LeaseLostError": ("ConflictError",),
    "StorageError": ("SessionManagerError",),
    "StorageLockedError": ("StorageError",),
    "StoreInUseError": ("StorageLockedError",),
    "SaveError": ("StorageError",),
    "SaveFailedError": ("SaveError",),
    "SaveOutcomeUnknownError": ("SaveError",),
    "CorruptSessionError": ("StorageError",),
    "UnsupportedFormatError": ("StorageError",),
    "CannotCommitTogetherError": ("StorageError",),
}

IDS = [f"{type(error).__name__}-{number}" for number, (error, _, _) in enumerate(EXAMPLES)]


def test_the_tree_is_the_one_that_was_promised():
    bases = {name: tuple(base.__name__ for base in getattr(errors, name).__bases__) for name in errors.__all__}
    assert bases == TREE


def test_the_docstring_draws_the_tree():
    drawn = {}
    parents = ["Exception"]
    for line in re.findall(r"^    .*Error.*$", errors.__doc__.split("::")[1], re.MULTILINE):
        depth = (line.index(line.strip("│├└─ ")) - 4) // 4
        name, other = re.fullmatch(r"(\w+)(?: \((\w+)\))?", line.strip("│├└─ ")).groups()
        parents[depth + 1 :] = [name]
        drawn[name] = (parents[depth],) if other is None else (parents[depth], other)
    assert drawn == TREE


def test_every_error_has_an_example_here():
    assert {type(error) for error, _, _ in EXAMPLES} | {SessionManagerError} == {
        getattr(errors, name) for name in errors.__all__
    }


def test_every_error_is_in_all_of_its_module_and_of_the_package():
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert set(errors.__all__) == defined
    assert defined <= set(session_manager.__all__)
    assert {name for name in session_manager.__all__ if name.endswith("Error")} == defined


def test_what_the_package_exports_is_what_it_lists():
    names = {
        name
        for name in dir(session_manager)
        if not name.startswith("_") and not isinstance(getattr(session_manager, name), types.ModuleType)
    }
    assert session_manager.__all__ == sorted(names)


def test_the_package_says_what_it_has_not():
    with pytest.raises(AttributeError, match="module 'session_manager' has no attribute 'Session_Manager'"):
        _ = session_manager.Session_Manager


@pytest.mark.parametrize(("error", "attributes", "sentence"), EXAMPLES, ids=IDS)
def test_an_error_carries_its_evidence_and_says_a_sentence(error, attributes, sentence):
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert str(error) == sentence


@pytest.mark.parametrize(("error", "attributes", "sentence"), EXAMPLES, ids=IDS)
def test_an_error_survives_pickling_and_copying(error, attributes, sentence):
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for again in [*pickled, copy.copy(error), copy.deepcopy(error)]:
        assert type(again) is type(error)
        assert {name: getattr(again, name) for name in attributes} == attributes
        assert str(again) == sentence
        assert repr(again) == repr(error)


def test_failures_survive_pickling():
    error = SaveFailedError(None, "2", {"a": CorruptSessionError("a", "/c/a", 3, "cut off"), "b": OSError(28, "full")})
    failures = pickle.loads(pickle.dumps(error)).failures
    assert {key: str(failure) for key, failure in failures.items()} == {
        "a": "session 'a' is damaged: /c/a, byte 3: cut off",
        "b": "[Errno 28] full",
    }


def test_a_key_error_says_a_sentence_and_not_a_bare_repr():
    error = SessionNotFoundError("telegram:42")
    assert isinstance(error, KeyError)
    assert str(error) == "no session 'telegram:42'"


class _Number(enum.IntEnum):
    ONE = 1


class _Local(str):
    __slots__ = ()

    def __reduce__(self):
        raise TypeError


class _LocalInt(int):
    def __reduce__(self):
        raise TypeError


BAD_KEYS = {
    "huge int": 10**5000,
    "negative huge int": -(10**5000),
    "enum": _Number.ONE,
    "str that does not pickle": _Local(""),
    "int that does not pickle": _LocalInt(5),
    "object": object(),
    "list": [1],
    "bytes": b"\xff",
    "None": None,
    "bool": True,
    "float": 1.5,
    "lone surrogate": "\ud800",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_an_invalid_key_of_any_kind_can_be_said_and_pickled(key):
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.key == caught.value.key
    assert str(again) == str(caught.value)
    assert str(again).startswith("invalid session key ")
    assert str(again).isascii()


def test_a_long_or_binary_key_is_shown_short_and_in_one_printable_line():
    for key in ["x" * 5000, "\u2028\x1b[31m\n" * 500]:
        for error in [InvalidKeyError(key, "is long"), SessionNotFoundError(key), SaveFailedError(key, "is full")]:
            assert len(str(error)) < 200
            assert str(error).replace("…", "").isprintable()
            assert str(error).replace("…", "").isascii()
            assert error.key == key


# Errors that lead to no other one


def failing_with(text, alive=None):
    """Fail over a text, and raise an error alone, in a frame that holds an object."""
    held = set(text)
    if alive is not None:
        alive.append(weakref.ref(held := type("Held", (), {})()))
    try:
        text.encode("ascii")
    except UnicodeEncodeError:
        raise_alone(ConflictError("k", None, None))
    return held


def test_an_error_that_is_raised_alone_leads_to_no_other_one():
    """``from None`` would only hide the error that is handled: a walk along ``__context__`` would find its text."""
    with pytest.raises(ConflictError) as caught:
        failing_with(f"{CANARY} é")
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert CANARY not in held_text(caught.value)


def test_an_error_that_is_raised_alone_is_in_no_cycle():
    """What its frames hold, such as the bytes of a file, goes with the last reference to it."""
    alive = []
    gc.disable()
    try:
        with contextlib.suppress(ConflictError):
            failing_with("é", alive)
        assert alive[0]() is None
    finally:
        gc.enable()
