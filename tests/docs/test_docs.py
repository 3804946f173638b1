"""The code in the documentation runs, its links lead somewhere, and the reference is complete."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import unicodedata
from xml.etree import ElementTree as ET

import pytest

import session_manager.testing
from session_manager import SessionManager, errors
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
#: Pages whose code another test runs: test_readme, test_async_how_to, test_how_to.
ELSEWHERE = [
    ROOT / "README.md",
    ROOT / "docs" / "adapters.md",
    ROOT / "docs" / "async-how-to.md",
    *(ROOT / "docs" / "how-to").iterdir(),
]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text() and page not in ELSEWHERE]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in ("anthropic", "openai"):
        if f"\nfrom {package}" in page.read_text():
            pytest.importorskip(package)
    blocks = re.finditer(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        line = page.read_text().count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block.group(1), str(page), "exec"), names)
    if "manager" in names:
        names["manager"].close(save=False)


def test_there_are_pages_with_code():
    assert len(WITH_CODE) >= 4


def slugs(heading):
    """Return the anchors of a heading: as MkDocs makes them, and as pages of repositories have them."""
    text = re.sub(r"\[(.*?)\]\(.*?\)|[`*]", r"\1", heading).strip().lower()
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip())
    return {site, re.sub(r"[^\w -]", "", text).replace(" ", "-")}


@functools.cache
def anchors(page):
    """Return the anchors of a page that are the same everywhere, and those that are not."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = [slugs(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    ids = set(re.findall(r'id="(.*?)"', text))
    return ids.union(*(one for one in found if len(one) == 1)), set().union(*(one for one in found if len(one) > 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """To a file that is there, and to a heading in it whose anchor does not depend on who makes it."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    wrong = []
    for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text):
        target = (page.parent / link).resolve() if link else page
        if not target.exists() or (anchor and anchor not in anchors(target)[0]):
            wrong.append((link, anchor))
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_sentence_begins_a_line(page):
    """Then a change of one sentence is a change of one line. Tables, headings and the list of changes have their own form."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "<!--"))]
    inside = re.compile(r'[a-zA-Z`)\]*"_][.?!][*)"]* +[A-Z`\[*("]')
    assert page.name == "CHANGELOG.md" or [line for line in lines if inside.search(line)] == []


def test_a_link_to_nothing_is_noticed():
    """The pattern once passed every link with an anchor that was not there."""
    assert slugs("Keep a chat within the model's context") == {"keep-a-chat-within-the-models-context"}
    assert slugs("`a` & b") == {"a-b", "a--b"}
    assert "licence" not in anchors(ROOT / "CONTRIBUTING.md")[0]
    assert "where-things-are" in anchors(ROOT / "CONTRIBUTING.md")[0]


def test_the_reference_names_every_public_name_and_call():
    reference = (ROOT / "docs" / "api.md").read_text()
    calls = [name for name in vars(SessionManager) if not name.startswith("_")]
    public = [*session_manager.__all__, *session_manager.testing.__all__, *calls]
    missing = [name for name in public if not re.search(rf"\b{name}\b", reference)]
    assert missing == []


def test_the_reference_names_every_argument_of_a_call():
    """Its line for the constructor lacked `rules`."""
    rows = (ROOT / "docs" / "api.md").read_text().splitlines()
    calls = {"SessionManager": SessionManager}
    calls |= {name: call for name, call in vars(SessionManager).items() if not name.startswith("_") and callable(call)}
    missing = []
    for name, call in calls.items():
        row = next(row for row in rows if re.match(rf"(\| |## )`{name}\(", row))
        missing += [(name, one) for one in inspect.signature(call).parameters if one != "self" and one not in row]
    assert missing == []


def test_every_test_that_the_documentation_names_is_there():
    files = [*(ROOT / "tests").rglob("*.py")]
    there = {file.stem for file in files}.union(
        *(re.findall(r"\bdef (test_\w+)\(", file.read_text()) for file in files)
    )
    for page in PAGES:
        assert set(re.findall(r"\btest_\w+", page.read_text())) <= there, page.name


def test_the_map_of_modules_names_each():
    """`docs/architecture.md` has every module of the package in the row of its room, and no other."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "session_manager"
    there = {}
    room = ""
    for row in re.findall(r"^\|(.*?)\|(.*?)\|.*\|$", page, flags=re.MULTILINE):
        room = row[0].strip(" `*") or room
        there.setdefault(room, set()).update(re.findall(r"`(\w+)`", row[1]))
    wanted = {}
    for file in package.rglob("*.py"):
        place = file.relative_to(package).parent.as_posix()
        if file.stem != "__init__":
            wanted.setdefault({".": "(top)", "testing/contract": "testing"}.get(place, place), set()).add(
                "contract" if place == "testing/contract" else file.stem
            )
    assert {room: there.get(room) for room in wanted} == wanted


PICTURES = sorted((ROOT / "docs" / "img").glob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_says_what_it_shows_and_a_page_has_it(picture):
    root = ET.parse(picture).getroot()
    assert root.get("aria-label") or "matplotlib" in picture.read_text() or picture.name == "command.svg"
    assert any(re.search(rf"\]\([\w./]*{picture.name}\)", page.read_text()) for page in PAGES)


SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_of_the_rooms_has_each():
    """It lacked three rooms and a store, and was white in a dark page."""
    package = ROOT / "session_manager"
    places = (package, package / "stores", package / "manager")
    wanted = {f"{room.name}/" for place in places for room in place.iterdir() if (room / "__init__.py").exists()}
    root = ET.parse(ROOT / "docs" / "img" / "rooms.svg").getroot()
    drawn = {text.text for text in root.iter(f"{SVG}text") if text.text.endswith("/")}
    assert drawn == wanted


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_drawing_has_colours_for_dark_pages(picture):
    """A plot is white everywhere, and a terminal dark."""
    text = picture.read_text()
    assert "prefers-color-scheme:dark" in text or "matplotlib" in text or picture.name == "command.svg"


def test_the_picture_of_errors_has_each_below_its_base():
    root = ET.parse(ROOT / "docs" / "img" / "errors.svg").getroot()
    drawn = {
        text.text: (text.get("data-parent"), int(text.get("x")))
        for text in root.iter(f"{SVG}text")
        if text.get("data-parent") is not None
    }
    depth = {"": -10}  # the root stands at 24, each below its base 34 further right
    for name in (one.split(" ")[0] for one in drawn):
        depth[name] = next(x for text, (_, x) in drawn.items() if text.split(" ")[0] == name)
    wanted = {}
    for name in errors.__all__:
        error = getattr(errors, name)
        ours = [base.__name__ for base in error.__bases__ if base.__name__ in errors.__all__]
        others = [
            base.__name__ for base in error.__bases__ if base.__name__ not in errors.__all__ and base is not Exception
        ]
        wanted[f"{name} ({others[0]})" if others else name] = ours[0] if ours else ""
    assert {text: parent for text, (parent, _) in drawn.items()} == wanted
    assert all(x == depth[parent] + 34 for parent, x in drawn.values())


def test_the_screen_of_reliability_has_the_numbers_of_the_sections_below():
    """Who runs an attack again, and changes its figures, changes both."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    screen, _, rest = page.partition("\n## ")
    rows = [row.split("|")[3] for row in screen.splitlines() if row.startswith("| [")]
    numbers = {number for row in rows for number in re.findall(r"\d[\d,]*\d", row)}
    assert len(rows) >= 7
    assert {number for number in numbers if not re.search(rf"(?<![\d,]){number}(?![\d,])", rest)} == set()


COMMAND = re.compile(r"(?:\.venv/bin/)?python3? -m ((?:benchmarks|pytest|tests|session_manager)[\w.]*)([^`\n|]*)")


def parts(command):
    """Return the modules and paths that a command names."""
    module, arguments = command
    return [module.rstrip("."), *re.findall(r"(?:tests|benchmarks|examples|docs)/[\w./-]+", arguments)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_command_that_gives_a_figure_can_be_started(page):
    """The module is there, and so is each file, directory and test that its command line names."""
    named = [part for command in COMMAND.findall(page.read_text()) for part in parts(command)]
    missing = [
        part
        for part in named
        if not ((ROOT / part.rstrip(".")).exists() if "/" in part else importlib.util.find_spec(part))
    ]
    assert missing == []
