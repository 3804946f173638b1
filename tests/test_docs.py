"""The documentation is true: its Python runs, what it shows is printed, its links lead somewhere, nothing public is missing.

In a page, in order:

* a block ``python`` is executed, in one namespace for the page, in an empty directory, warnings being errors;
* a block ``text output`` is what the Python block before it printed, exactly (``...`` stands for anything);
* a block of any language with ``file=NAME`` is written to that file;
* a block ``python no-run`` is only compiled; every other one is for reading.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import os
import re
import string
import sys
import warnings
from pathlib import Path

import attrs
import pytest

import session_manager
from session_manager import Commit, Finding, Health, Message, Session, SessionInfo, SessionManager, Store, Version
from session_manager import errors as all_errors
from session_manager.model import MAX_REFS
from session_manager.names import MAX_KEY_BYTES

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINKED = [path for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES)]

FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<text>.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@attrs.frozen
class Block:
    language: str
    options: tuple[str, ...]
    text: str
    #: The line of the page before its first one.
    line: int

    @property
    def file(self):
        return next((option.removeprefix("file=") for option in self.options if option.startswith("file=")), None)


def blocks_of(page):
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        language, *options = match["info"].split() or [""]
        yield Block(language, tuple(options), match["text"], text.count("\n", 0, match.start("text")))


def compiled(block, page):
    return compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True)


class Reader:
    """Runs a page as somebody does who types it in."""

    def __init__(self, page):
        self.page = page
        self.namespace = {"__name__": "docs"}
        self.printed = ""
        self.printed_at = 0

    def run(self, block):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, "utf-8")
        elif "output" in block.options:
            self.compare(block)
        elif block.language == "python" and "no-run" not in block.options:
            self.all_shown()
            output = io.StringIO()
            with contextlib.redirect_stdout(output), warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(compiled(block, self.page), self.namespace)
            self.printed, self.printed_at = output.getvalue(), block.line

    def compare(self, block):
        printed, self.printed = self.printed, ""
        same = doctest.OutputChecker().check_output(block.text, printed, doctest.ELLIPSIS)
        assert same, f"{name_of(self.page)}:{block.line}: shown:\n{block.text}\nprinted:\n{printed}"

    def all_shown(self):
        assert not self.printed, f"{name_of(self.page)}:{self.printed_at}: prints what is not shown:\n{self.printed}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_python_of_a_page_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    reader = Reader(page)
    for block in blocks_of(page):
        reader.run(block)
    reader.all_shown()


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_python_that_is_only_shown_compiles(page):
    for block in blocks_of(page):
        if block.language == "python":
            compiled(block, page)


def test_every_fence_is_closed():
    for page in LINKED:
        assert page.read_text("utf-8").count("\n```") % 2 == 0, name_of(page)


def anchors_of(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    return {anchor(heading) for heading in HEADING.findall(text)}


def anchor(heading):
    """Return the anchor that GitHub gives to a heading."""
    kept = set(string.ascii_lowercase + string.digits + " -_")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return "".join(c for c in plain.lower() if c in kept or c.isalnum()).replace(" ", "-")


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            assert target.startswith("https://"), target
            continue
        path, _, fragment = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name_of(page)}: {target}"
        assert found.is_relative_to(ROOT), f"{name_of(page)}: {target}"
        if fragment:
            assert fragment in anchors_of(found), f"{name_of(page)}: {target}"


def test_every_page_is_reached_from_the_index():
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in LINK.findall(page.read_text("utf-8")):
            found = (page.parent / target.partition("#")[0]).resolve()
            if found.suffix == ".md" and found.is_relative_to(DOCS) and found.exists():
                waiting.append(found)
    assert reached >= set(PAGES)


# The reference


REFERENCE = (DOCS / "api.md").read_text("utf-8")


def rows():
    """Return the first cell of each row of the reference's tables."""
    return [line.split(" | ")[0].removeprefix("| ") for line in REFERENCE.splitlines() if line.startswith("| `")]


def public(cls):
    return [name for name in dir(cls) if not name.startswith("_")]


def in_reference(name):
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", row) for row in rows())


@pytest.mark.parametrize("name", session_manager.__all__)
def test_every_public_name_is_in_the_reference(name):
    assert f"`{name}" in REFERENCE


@pytest.mark.parametrize("name", all_errors.__all__)
def test_every_error_has_a_row_with_its_base_and_its_attributes(name):
    cls = getattr(all_errors, name)
    (row,) = [line for line in REFERENCE.splitlines() if line.startswith(f"| `{name}` |")]
    base = cls.__bases__[0].__name__
    assert f"`{base}`" in row
    builtin = [one.__name__ for one in cls.__bases__[1:]]
    assert all(f"`{one}`" in row for one in builtin)
    documented = re.findall(r"#: .*\n\s+self\.(\w+)", inspect.getsource(cls))
    assert all(f"`{attribute}`" in row for attribute in documented)


METHODS = [name for name, _ in inspect.getmembers(SessionManager, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_manager_is_in_the_reference_with_its_arguments(name):
    assert f"`{shown(getattr(SessionManager, name))}`" in rows()


def shown(function):
    """Return a method's name and arguments as the reference shows them."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ][1:]
    signature = str(inspect.Signature(parameters)).replace("'", '"')
    return function.__name__ + signature


def test_every_argument_of_the_constructor_is_in_the_reference():
    (row,) = [row for row in rows() if row.startswith("`SessionManager(")]
    for parameter in inspect.signature(SessionManager).parameters:
        assert re.search(rf"\b{parameter}\b", row)


@pytest.mark.parametrize("cls", [Message, Session, SessionInfo, Health, Version, Finding, Commit, Store])
def test_every_attribute_of_the_values_is_in_the_reference(cls):
    names = {*public(cls), *(field.name for field in getattr(cls, "__attrs_attrs__", ()) if field.name[0] != "_")}
    assert [name for name in sorted(names) if not in_reference(name)] == []


def test_the_reference_names_no_method_that_is_not_there():
    known = {
        name
        for cls in (Message, Session, SessionInfo, Health, Version, Finding, Commit, Store, SessionManager)
        for name in public(cls)
    }
    called = {match[1] for row in rows() if (match := re.match(r"`(?:\w+\.)?([a-z_]+)\(", row))}
    assert called <= known | {"open_store"}


def test_numbers_that_are_constants():
    everything = " ".join(page.read_text("utf-8") for page in PAGES)
    assert f"last {MAX_REFS}" in everything
    assert f"{MAX_KEY_BYTES:,} bytes" in everything
    assert SessionManager.__init__.__kwdefaults__["max_message_bytes"] == 16 * 2**20
    assert "16 MiB" in REFERENCE
