"""A hook of MkDocs: what pages link to outside of ``docs/`` is on the site, too.

Links in the pages are those of the repository, so that they work there. Each file that they name outside of ``docs/`` becomes
a page of the site: a Markdown file as it is, any other as code. The lists of navigation get the decisions, which nobody types; the
reference gets the public names that no page of it has.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, InclusionLevel

import session_manager.history
import session_manager.importers
import session_manager.operations
import session_manager.testing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
DOCS = "docs"
#: A link or picture of Markdown: its text, its target, and its anchor.
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)#:\s]+)((?:#[^)]*)?)\)")
#: Pages of the repository itself, which the navigation has under these titles.
PROJECT = {
    "Changes": "CHANGELOG.md",
    "Contributing": "CONTRIBUTING.md",
    "Figures": "benchmarks/README.md",
    "What limits the speed": "benchmarks/limits.md",
}
CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".cfg": "ini", ".yml": "yaml", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the decisions, and the pages of the repository itself, into the navigation."""
    (section,) = (pages for group in config.nav for title, pages in group.items() if title == "How it works")
    section.append({"Decisions": [_DECISIONS, *(f"adr/{name}" for name in _decisions())]})  # folded, for it is long
    config.nav.append({"Project": [{title: _page_of(name)} for title, name in PROJECT.items()]})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of ``docs/`` that a page links to, and for those that these link to."""
    pages = [(f"{DOCS}/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    waiting = {*PROJECT.values()}.union(*(_targets(name, text) for name, text in pages))
    done: set[str] = set()
    while waiting := {name for name in waiting - done if not _is_in_docs(name) and (ROOT / name).is_file()}:
        done |= waiting
        for name in sorted(waiting):
            files.append(_generated(config, name))
        waiting = set().union(*(_targets(name, _read(name)) for name in waiting if name.endswith(".md")))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Turn links of the repository into those of the site. A folder is no page, and keeps its name alone."""
    if page.file.src_uri == _DECISIONS:
        return markdown + "\n" + "\n".join(_list_of_decisions())
    if page.file.src_uri == _OTHERS:
        markdown += "".join(f"\n::: session_manager.{name}\n" for name in _names_without_a_page())
    outside = page.file.generated_by is not None
    name = page.file.src_uri if not outside else _NAMES[page.file.src_uri]
    source = name if outside else f"{DOCS}/{name}"

    def on_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        if not outside and _is_in_docs(target):
            return link[0]
        if (ROOT / target).is_dir() and not _is_in_docs(target):
            return link[1]
        where = target.removeprefix(f"{DOCS}/") if _is_in_docs(target) else _page_of(target)
        return f"[{link[1]}]({posixpath.relpath(where, posixpath.dirname(page.file.src_uri) or '.')}{link[3]})"

    pieces = CODE.split(markdown)
    pieces[::2] = [LINK.sub(on_the_site, piece) for piece in pieces[::2]]
    return "".join(pieces)


_DECISIONS = "adr/README.md"


#: The page of the reference that gets all names which no other page has.
_OTHERS = "reference/values.md"


def _names_without_a_page() -> list[str]:
    pages = (page.read_text("utf-8") for page in (ROOT / DOCS / "reference").glob("*.md"))
    shown = {name.rpartition(".")[2] for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    public = {*session_manager.__all__} - {*session_manager.errors.__all__}
    modules = (session_manager.history, session_manager.testing, session_manager.operations, session_manager.importers)
    inside = {f"{module.__name__.partition('.')[2]}.{name}" for module in modules for name in module.__all__}
    return sorted(name for name in public | inside if name.rpartition(".")[2] not in shown)


def _decisions() -> list[str]:
    return sorted(file.name for file in (ROOT / DOCS / "adr").glob("[0-9]*.md"))


def _list_of_decisions() -> Iterator[str]:
    for name in _decisions():
        title = _read(f"{DOCS}/adr/{name}").partition("\n")[0].removeprefix("# ")
        yield f"* [{title}]({name})"


#: The names in the repository of the pages that are made of its files.
_NAMES: dict[str, str] = {}


def _read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def _generated(config: MkDocsConfig, name: str) -> File:
    page, content = _page_of(name), _read(name)
    _NAMES[page] = name
    if name.endswith(".md"):
        return File.generated(config, page, content=content)
    code = f"# {name}\n\n```{LANGUAGES.get(Path(name).suffix, 'text')}\n{content}\n```\n"
    return File.generated(config, page, content=code, inclusion=InclusionLevel.NOT_IN_NAV)


def _page_of(name: str) -> str:
    """Return the page of the site that a file outside of ``docs/`` becomes."""
    return f"files/{name.removesuffix('.md')}.md"


def _is_in_docs(name: str) -> bool:
    return name.startswith(f"{DOCS}/")


def _targets(name: str, text: str) -> set[str]:
    links = LINK.findall("".join(CODE.split(text)[::2]))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) for _, target, _ in links}
