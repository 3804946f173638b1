"""Values made as drafts: they are of their class, complete, and as frozen as others."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import attrs
import pytest

from session_manager.manager.cache.entry import Entry
from session_manager.model.session import Session, Version
from session_manager.stores.commits import Commit

_NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
_SAVED = Session(key="chat", generation="generation", created=_NOW, updated=_NOW, revision=3)
_COMMIT = Entry.of(_SAVED).commit("token")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (_SAVED._with(summary="short"), Session),
        (_SAVED.version, Version),
        (_COMMIT, Commit),
        (_COMMIT.session, Session),
    ],
)
def test_a_value_that_was_a_draft_is_one_of_its_class(value: Any, kind: Any) -> None:
    """It has every field, equals one that a call of the class makes, and cannot be changed."""
    assert type(value) is kind
    assert attrs.evolve(value) == value
    for field in attrs.fields(kind):
        assert hasattr(value, field.name)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(value, field.name)
