"""What the package says of itself, in the files around it."""

from __future__ import annotations

import re
from configparser import ConfigParser

import pytest

import session_manager
from tests.support.places import ROOT

pytestmark = pytest.mark.once

SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def test_the_version_has_a_section_among_the_changes():
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[:2] == ["Unreleased", session_manager.__version__]


def test_hooks_before_a_commit_are_the_linters_of_ci():
    """A hook that CI does not know, or the other way round, would make one of the two fail alone."""
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    step = (ROOT / ".ci" / "run").read_text().partition('step "linters"\n')[2].partition("\n\n")[0]
    lines = [line for line in step.splitlines() if not line.startswith(".venv/bin/pip ")]
    assert hooks == [line.replace(" --check", "") for line in lines]


def test_metadata_stands_in_one_file():
    """`pyproject.toml` names the build system, and nothing that other tools would read there instead of their own files."""
    sections = re.findall(r"^\[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sections == ["build-system"]


def test_the_metadata_names_every_python_that_ci_tries():
    """The oldest one is what pip asks for."""
    classifiers = SETUP["metadata"]["classifiers"].split("\n")
    named = [
        found[1] for line in classifiers if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    tried = re.search(r"^for version in (.*); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)[1].split()
    assert set(named) <= set(tried)
    assert SETUP["options"]["python_requires"] == f">={named[0]}"
