"""The command ``adopt``: a directory of another program becomes one of ours, in place."""

from __future__ import annotations

from typing import Literal

import click

from session_manager.cli.exits import FOUND
from session_manager.cli.importing import print_report
from session_manager.cli.output import json_value
from session_manager.cli.parameters import json_option
from session_manager.cli.terminal import progress_bar
from session_manager.importers import adopt as adopt_directory

__all__ = ["adopt"]


@click.command(
    "adopt",
    epilog="""\b
Examples:
    session-manager adopt ~/.picoclaw/workspace/sessions --dry-run
    session-manager adopt ~/.picoclaw/workspace/sessions
""",
)
@click.argument("directory", type=click.Path())
@click.option(
    "--kind",
    type=click.Choice(["snapshot", "log"]),
    help="What it becomes; by default what our sessions in it are, or else snapshots.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be adopted.")
@json_option
def adopt(directory: str, *, kind: Literal["snapshot", "log"] | None, dry_run: bool, as_json: bool) -> int:
    """Make DIRECTORY, in which picoclaw keeps its sessions, a storage of ours. Stop picoclaw first.

    Each session is written as one of ours, and picoclaw's files of it are renamed to NAME.migrated. Nothing is removed. The same command
    goes on after an interruption. What cannot be adopted is listed, and stays; the exit code is then 1. Move it elsewhere: until then the
    directory does not open.
    """
    with progress_bar("Adopting") as progress:
        report = adopt_directory(directory, kind=kind, dry_run=dry_run, progress=progress)
    if as_json:
        json_value(report)
    else:
        print_report(report, "adopted", dry_run=dry_run)
    return 0 if report.ok else FOUND
