"""The two versions of the package that are compared, each copied to a folder of its own."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PACKAGE", "CannotCompareError", "Version", "earlier", "present"]

PACKAGE = "session_manager"


class CannotCompareError(Exception):
    """There is no earlier version to compare with; the text says why."""


@dataclass(frozen=True)
class Version:
    """A version of the package.

    :param name: what the table calls it: ``old`` or ``new``.
    :param folder: the folder that holds the package.
    :param says: which commit it is, in words.
    """

    name: str
    folder: str
    says: str

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that imports this version, from one that imports the benchmarks."""
        path = os.pathsep.join([self.folder, base["PYTHONPATH"]])
        return {**base, "PYTHONPATH": path}


def earlier(ref: str, repository: str, folder: str) -> Version:
    """Copy the package out of a commit.

    :param ref: names the commit, as git knows it: a hash, a branch, a tag, ``HEAD~3``.
    :param repository: the top of the clone.
    :param folder: where the package goes; it is created.
    :raises CannotCompareError: if there is no git, no clone, no such commit, or no package in it.
    """
    _check_clone(repository)
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not commit:
        raise CannotCompareError(f"{ref!r} names no commit of {repository}")
    name = commit.decode().strip()
    says = _says(repository, name)
    if _git(repository, "cat-file", "-t", f"{name}:{PACKAGE}/__init__.py") is None:
        raise CannotCompareError(f"commit {says} has no package {PACKAGE}")
    archive = _git(repository, "archive", "--format=zip", name, PACKAGE)
    if archive is None:
        raise CannotCompareError(f"git cannot read commit {says}: git -C {repository} archive {name} {PACKAGE}")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(folder)
    return Version("old", folder, says)


def present(repository: str, folder: str) -> Version:
    """Copy the package of the working tree, so that an edit made meanwhile does not get into the run.

    :param repository: the top of the clone.
    :param folder: where the package goes; it is created.
    :raises CannotCompareError: if there is no git, or no clone.
    """
    _check_clone(repository)
    says = _says(repository, "HEAD")
    if _git(repository, "status", "--porcelain", "--", PACKAGE):
        says += ", with changes that are not committed"
    source = os.path.join(repository, PACKAGE)
    shutil.copytree(source, os.path.join(folder, PACKAGE), ignore=shutil.ignore_patterns("__pycache__"))
    return Version("new", folder, says)


def _check_clone(repository: str) -> None:
    if shutil.which("git") is None:
        raise CannotCompareError("git is not installed, and an earlier commit comes out of it")
    top = _git(repository, "rev-parse", "--show-toplevel")
    if top is None or os.path.realpath(os.fsdecode(top.rstrip(b"\n"))) != os.path.realpath(repository):
        raise CannotCompareError(f"{repository} is not the top of a git clone that git can read")


def _says(repository: str, commit: str) -> str:
    found = _git(repository, "log", "-1", "--format=%h (%s)", "--end-of-options", commit)
    return found.decode(errors="replace").strip() if found else commit


def _git(repository: str, *arguments: str) -> bytes | None:
    """Return what a command of git prints; `None` if it fails."""
    found = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=False)  # noqa: S603, S607 - git, wherever it is
    return found.stdout if found.returncode == 0 else None
