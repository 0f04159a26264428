"""Print what makes a shell complete our command lines, and answer what that asks.

The shell asks at every Tab, with all words up to the cursor, so it knows nothing that the parsers
do not say. The first line of an answer is `:words`, `:files` or `:directories`: what the shell has
to add itself to the lines that follow.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sandboxfile import app, choosing, completing, errors, git, lockfile, process, tags
from sandboxfile.completing import Expected
from sandboxfile.errors import SandboxfileError
from sandboxfile.model import BootstrapBase, ImageBase, Workspace
from sandboxfile.patterns import regex

_BASH = r"""# bash completion of sandboxfile, as `sandboxfile completion bash` prints it
_sandboxfile() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} count=0 i word before
    local -a words answer
    # Bash parts words at `=` and `:` too; what no space parts belongs together.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $i == 0 || $line == [[:space:]]* ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            words[count++]=
        fi
        ((i == COMP_CWORD)) && word=$line
        words[count - 1]+=$word
        line=${line#"$word"}
    done
    while read -r word; do
        answer+=("$word")
    done < <("${words[0]/#\~/$HOME}" completion bash -- "${words[@]:1}" 2>/dev/null)
    # What bash replaces is only what comes after the last `=` or `:`.
    before=${words[count - 1]%"$2"}
    COMPREPLY=()
    for word in "${answer[@]:1}"; do
        COMPREPLY+=("${word#"$before"}")
    done
    # What ends in `=` goes on.
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    case ${answer[0]} in
        :files) i=-f ;;
        :directories) i=-d ;;
        *) return ;;
    esac
    compopt -o filenames 2>/dev/null
    while read -r word; do
        COMPREPLY+=("$word")
    done < <(compgen "$i" -- "$2")
}
complete -F _sandboxfile sandboxfile
"""

_ZSH = r"""#compdef sandboxfile
# zsh completion of sandboxfile, as `sandboxfile completion zsh` prints it
_sandboxfile() {
    local -a before answer open
    local kind result=1
    before=("${(@Q)words[2,CURRENT-1]}")
    answer=("${(@f)$(${(Q)~words[1]} completion zsh -- $before "${(Q)PREFIX}" 2>/dev/null)}")
    kind=$answer[1]
    shift answer
    open=(${(M)answer:#*=(|:*)})
    answer=(${answer:#*=(|:*)})
    if (( $#answer )); then
        _describe -V sandboxfile answer && result=0
    fi
    if (( $#open )); then
        _describe -V sandboxfile open -S '' && result=0
    fi
    case $kind in
        :files) compset -P '--*='; _files && result=0 ;;
        :directories) compset -P '--*='; _files -/ && result=0 ;;
    esac
    return result
}
if [[ $funcstack[1] == _sandboxfile ]]; then
    _sandboxfile "$@"
else
    compdef _sandboxfile sandboxfile
fi
"""

_FISH = r"""# fish completion of sandboxfile, as `sandboxfile completion fish` prints it
function __sandboxfile_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l last (string unescape -- $typed $typed\" $typed\')[1]
    set -l program (string replace -r -- '^~(?=/)' $HOME $words[1])
    set -l answer ($program completion fish -- $words[2..-1] $last 2>/dev/null)
    set -l before (string match -r -- '^--[^=]*=' $last)
    set -l value (string replace -- "$before" '' $last)
    printf '%s\n' $answer[2..-1]
    switch "$answer[1]"
        case :files
            printf '%s\n' "$before"(__fish_complete_path "$value")
        case :directories
            printf '%s\n' "$before"(__fish_complete_directories "$value" '')
    end
end
complete -c sandboxfile -f -k -a '(__sandboxfile_complete)'
"""

VARIABLE = "NAME=VALUE"  # as the parser calls it

_HARMLESS = regex(r"\w[\w./@%+=,-]*")

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=list(SCRIPTS), help="what to print it for")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- WORD ...",
        help="a command line up to the cursor, to print what its last word may become",
    )


def run(args: argparse.Namespace) -> int:
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        sys.stdout.write(SCRIPTS[args.shell])
        return errors.DONE
    try:
        kind, found = answer(args, _unquoted(words) if args.shell == "bash" else words)
    except (SandboxfileError, OSError):  # what is wrong is told when the command is run
        kind, found = "words", {}
    lines = (_line(args.shell, word, text) for word, text in found.items())
    sys.stdout.write("".join(f"{line}\n" for line in (f":{kind}", *lines)))
    return errors.DONE


def _line(shell: str, word: str, text: str) -> str:
    """Return a line as a shell wants it: with what a word means where it can show that."""
    if shell == "zsh":
        word = word.replace("\\", "\\\\").replace(":", "\\:")
        return f"{word}:{text}" if text else word
    return f"{word}\t{text}" if text and shell == "fish" else word


def _unquoted(words: Iterable[str]) -> list[str]:
    """Return words that are written as in a shell, the last one perhaps with an open quote."""
    return [_without_quotes(word) for word in words]


def _without_quotes(word: str) -> str:
    for end in ("", "'", '"'):
        with suppress(ValueError):
            return "".join(shlex.split(word + end))
    return word


# --- what fits --------------------------------------------------------------------------------


def answer(args: argparse.Namespace, words: list[str]) -> tuple[str, Mapping[str, str]]:
    """Return what the last word may become, and what the shell has to add.

    Raises SandboxfileError where the configuration cannot be read.
    """
    expected = completing.expected(words)
    found = dict(expected.words)
    if VARIABLE in expected.kinds:
        _apply(args, expected)
        found |= {expected.before + word: text for word, text in _variables(args, expected.value)}
    if sources := [_SOURCES[kind] for kind in expected.kinds if kind in _SOURCES]:
        _apply(args, expected)
        workspace = app.workspace(args)
        for source in sources:
            for word, text in source(args, workspace, expected):
                if word.startswith(expected.value) and word not in expected.taken:
                    found[expected.before + word] = text
    return _kind(expected), found


def _kind(expected: Expected) -> str:
    """Say what the shell adds; templates are also named by the directory that they are in."""
    if "FILE" in expected.kinds:
        return "files"
    is_path = "/" in expected.value and ":" not in expected.value
    is_directory = "TEMPLATE" in expected.kinds and expected.several and is_path
    return "directories" if "DIR" in expected.kinds or is_directory else "words"


def _apply(args: argparse.Namespace, expected: Expected) -> None:
    """Let the options on the line say which workspace is meant. Raises OSError, UsageError."""
    given = {action.dest: (action, value) for action, value in expected.given}
    if "directory" in given:
        os.chdir(Path(given["directory"][1]).expanduser())
    if "file" in given:
        args.file = str(Path(given["file"][1]).expanduser())
    if "target" in given:
        args.target = given["target"][1]


Found = Iterator[tuple[str, str]]


def _templates(args: argparse.Namespace, workspace: Workspace, expected: Expected) -> Found:
    del args
    with_path = ":" in expected.value or "/" in expected.value
    if not expected.several:
        templates = workspace.templates.values()
        yield from ((each.address if with_path else each.name, "") for each in templates)
        return
    for word in choosing.words(workspace, ":" if with_path else ""):
        is_group = word in workspace.groups and word not in workspace.templates
        yield word, "group" if is_group else ""


def _targets(args: argparse.Namespace, workspace: Workspace, expected: Expected) -> Found:
    del args, expected
    yield from (
        (each.name, each.api_url or each.domain or "") for each in workspace.targets.values()
    )


def _variables(args: argparse.Namespace, begun: str) -> Found:
    """Yield what may be said of the variables that are declared, which need no value for that."""
    from sandboxfile.config import finding, load

    for name, words in load.declared(finding.find(Path.cwd(), args.file)).items():
        for word in words or ("",):
            if (said := f"{name}={word}").startswith(begun):
                yield said, "" if word else "any value"


def _bases(args: argparse.Namespace, workspace: Workspace, expected: Expected) -> Found:
    del args, expected
    for template in workspace.templates.values():
        base = template.base
        if isinstance(base, ImageBase):
            yield base.image, "base"
        elif isinstance(base, BootstrapBase):
            yield f"{base.distribution}:{base.suite}", "base"


def _tags(args: argparse.Namespace, workspace: Workspace, expected: Expected) -> Found:
    """Yield the tags of the templates on the line, or of all: those written, those in the lock."""
    named = [word for word in expected.taken if word in workspace.templates]
    names = named or list(workspace.templates)
    target, _ = app.target(args, workspace)
    lock = lockfile.read(app.lock_path(workspace, target)).targets.get(target.name, {})
    found = {"default": None, **dict.fromkeys(target.tags)}
    for name in names:
        found |= dict.fromkeys(workspace.templates[name].tags)
        if name in lock:
            found |= dict.fromkeys([*(lock[name].tags or ()), *lock[name].moved])
    yield from ((tag, "") for tag in found if "$" not in tag and not tags.is_content(tag))


def _refs(args: argparse.Namespace, workspace: Workspace, expected: Expected) -> Found:
    del args, expected
    listing = (
        "for-each-ref",
        "--format=%(refname:short)",
        "refs/heads",
        "refs/remotes",
        "refs/tags",
    )
    done = process.run(git.command(workspace.root, *listing), timeout_s=5)
    # Git lets anybody call a branch what a shell would run.
    yield from ((ref, "") for ref in done.stdout.splitlines() if _HARMLESS.fullmatch(ref))


# By what the parsers call a value; FILE and DIR are the shell's own business.
_SOURCES: Mapping[str, Callable[[argparse.Namespace, Workspace, Expected], Found]] = {
    "BASE": _bases,
    "REF": _refs,
    "TAG": _tags,
    "TARGET": _targets,
    "TEMPLATE": _templates,
}
