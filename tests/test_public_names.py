"""What a module offers is in its ``__all__``; everything else that it defines begins with an underscore."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

import session_manager
from tests.support.places import ROOT

PACKAGE = ROOT / "session_manager"
#: What the errors' module gives to the rooms; its ``__all__`` is the errors alone, which users catch.
FOR_THE_ROOMS = {"errors.py": {"raise_alone", "without_password"}}


def targets(statement):
    """Return the names that a statement at the top of a module binds, but for imports."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        places = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for place in places for node in ast.walk(place) if isinstance(node, ast.Name)]
    blocks = (getattr(statement, field, []) for field in ("body", "orelse", "finalbody", "handlers"))
    return [name for block in blocks for inner in block for name in targets(inner)]


def offered(tree):
    """Return what ``__all__`` has, as it stands in the text; `None` if there is no such line."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and "__all__" in targets(statement):
            return [node.value for node in ast.walk(statement.value) if isinstance(node, ast.Constant)]
    return None


def own(tree):
    """Return what a module defines at its top without an underscore, but for type variables and what stands in for an import."""
    imports = {
        alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    return {name for statement in tree.body for name in targets(statement) if not re.match("_|[A-Z]$", name)} - imports


def test_a_module_offers_all_that_it_defines_without_an_underscore():
    undeclared = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        place = path.relative_to(PACKAGE).as_posix()
        if names := own(tree) - set(offered(tree) or ()) - FOR_THE_ROOMS.get(place, set()):
            undeclared[place] = sorted(names)
    assert undeclared == {}


@pytest.mark.parametrize("room", [face.parent.name for face in PACKAGE.glob("*/__init__.py")])
def test_a_room_has_nothing_at_its_face_but_public_names_and_modules(room):
    face = importlib.import_module(f"session_manager.{room}")
    found = {name for name in dir(face) if not name.startswith("_")} - {"annotations"}
    assert found - {path.stem for path in (PACKAGE / room).iterdir()} <= set(getattr(face, "__all__", ()))


def test_the_package_has_nothing_at_its_face_but_public_names_and_modules():
    found = {name for name in dir(session_manager) if not name.startswith("_")}
    assert found - {path.stem for path in PACKAGE.iterdir()} <= set(session_manager.__all__)
