"""The command ``completion``: the script by which a shell completes commands, options and keys."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from session_manager.cli.exits import USAGE

__all__ = ["completion"]

_VARIABLE = "_SESSION_MANAGER_COMPLETE"

#: click's own script takes the words of bash, which ends a word at a colon. Most keys have one. So this one parts the line at
#: spaces, and takes from each answer the part that bash thinks of as other words.
_BASH = r"""_session_manager_completion() {
    local line=${COMP_LINE:0:COMP_POINT} before="" type value
    local -a words
    IFS=' ' read -ra words <<< "$line"
    [[ $line == *" " ]] && words+=("")
    local last=$((${#words[@]} - 1))
    [[ ${words[last]} == *:* && $COMP_WORDBREAKS == *:* ]] && before=${words[last]%"${words[last]##*:}"}
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) printf -v value %q "${value#"$before"}"; COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="$line" COMP_CWORD=$last _SESSION_MANAGER_COMPLETE=bash_complete "$1")
}
complete -o nosort -F _session_manager_completion session-manager 2> /dev/null ||
    complete -F _session_manager_completion session-manager"""


@click.command(
    epilog="""\b
Examples:
    session-manager completion bash >> ~/.bashrc
    session-manager completion zsh >> ~/.zshrc
    session-manager completion fish > ~/.config/fish/completions/session-manager.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the script for SHELL that completes commands, options, and keys of the storage."""
    if shell == "bash":
        click.echo(_BASH)
        return 0
    kind = get_completion_class(shell)
    if kind is None:
        return USAGE
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "session-manager", _VARIABLE).source())
    return 0
