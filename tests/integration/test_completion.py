"""Shells that people type in complete our command lines, each with the script made for it."""

import os
import pty
import re
import select
import shlex
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.fakes.shell import CHECKOUT, User

ROOT = """\
version: 1
members: ["services/*/novita.yaml"]
targets: {prod: {provider: novita, domain: us-phx-1.sandbox.novita.ai}, laptop: {provider: local}}
templates:
  python: {base: "debian:12", tags: [stable]}
groups: {apis: [python]}
variables: {channel: {default: a1, enum: [a1, a2]}, free: {default: x}}
"""
MEMBER = """\
version: 1
templates:
  api: {base: {template: python}, matrix: {v: [x, y]}}
"""
# What is typed, its last word, and what that may become.
LINES: tuple[tuple[str, str, list[str]], ...] = (
    ("sandboxfile", "bui", ["build"]),
    ("sandboxfile plan", "--ta", ["--target"]),
    ("sandboxfile", "--target=l", ["--target=laptop", "--target=local"]),
    ("sandboxfile build", "a", ["api", "api-x", "api-y", "apis"]),
    ("sandboxfile why", "services/a:api-", ["services/a:api-x", "services/a:api-y"]),
    ("sandboxfile build", "services/", ["services/a", "services/a:api"]),
    ("sandboxfile tag python", "st", ["stable"]),
    ("sandboxfile", "--file=two", ["--file=two words.yaml"]),
    ("sandboxfile build", '"py', ["python"]),
    ("A=1 sandboxfile -C services/a build -j4", "api-", ["api-x", "api-y"]),
    ("sandboxfile -f two\\ words.yaml why", "o", ["other"]),
    ("~/bin/sandboxfile why", "py", ["python"]),
    ("sandboxfile plan", "--var=channel=", ["--var=channel=a1", "--var=channel=a2"]),
    ("sandboxfile plan --var", "fr", ["free="]),
    ("sandboxfile frob", "py", []),
)


@pytest.fixture(scope="module")
def typist(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Somebody with a workspace and a `sandboxfile` on the path."""
    home = tmp_path_factory.mktemp("home")
    user = User(home=home, root=home / "work")
    user.write("novita.yaml", ROOT)
    user.write("services/a/novita.yaml", MEMBER)
    user.write("two words.yaml", "version: 1\nname: other\nbase: debian:12\n")
    program = user.at(home / "bin").write(
        "sandboxfile", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sandboxfile "$@"\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return user.having(PATH=path, TERM="dumb", LC_ALL="C.UTF-8", PYTHONPATH=CHECKOUT)


class Terminal:
    """A shell at a terminal of its own, in which one types."""

    def __init__(self, user: User, *argv: str) -> None:
        self._child, self._at = pty.fork()
        if not self._child:
            try:
                os.chdir(user.root)
                os.execvpe(argv[0], argv, user.whole_environ())
            finally:
                os._exit(127)
        rows_columns = (500, 500)
        termios.tcsetwinsize(self._at, rows_columns)

    def type(self, keys: str) -> None:
        os.write(self._at, keys.encode())

    def answer(self) -> list[str]:
        """Return the words that `answer` is given next."""
        seen = ""
        while True:
            ready, _, _ = select.select([self._at], [], [], 60)
            assert ready, f"nothing more is said after {seen!r}"
            seen += os.read(self._at, 65536).decode("utf-8", "replace")
            _, is_there, rest = seen.partition("\n<<")
            words, is_whole, _ = rest.partition(">>\r\n")
            if is_there and is_whole:
                return words.split("><")

    def close(self) -> None:
        os.close(self._at)
        os.waitpid(self._child, 0)


@pytest.fixture(scope="module")
def terminal(request: pytest.FixtureRequest, typist: User) -> Iterator[tuple[Terminal, str, Path]]:
    """Return an interactive shell, the key that takes all that fits, and the home directory."""
    shell: str = request.param
    needs(shell)
    answer = "answer() { printf '\\n<<'; local IFS='>'; printf %s \"${1-}\"; shift; "
    answer += "printf '><%s' \"$@\"; printf '>>\\n'; }\n"
    if shell == "bash":
        started = Terminal(typist, "bash", "--norc", "--noprofile", "-i")
        started.type("bind 'set enable-bracketed-paste off'\n" + answer)
        key = "\x1b*"
    else:
        started = Terminal(typist, "zsh", "-f", "-i")
        started.type(
            "autoload -U compinit; compinit -u -D\n"
            "zstyle ':completion:all-matches::::' completer _all_matches _complete\n"
            "zstyle ':completion:all-matches:*' insert true\n"
            "zle -C all-matches complete-word _generic\n"
            "bindkey -e; bindkey '^X^A' all-matches\n" + answer
        )
        key = "\x18\x01"
    started.type(f'eval "$(sandboxfile completion {shell})"\n')
    yield started, key, typist.home
    started.close()


@pytest.mark.parametrize("terminal", ["bash", "zsh"], indirect=True)
def test_shells_complete_what_is_typed(terminal: tuple[Terminal, str, Path]) -> None:
    shell, key, home = terminal
    for before, last, expected in LINES:
        shell.type(f"{before} {last}{key}\x01answer \r")
        words = shell.answer()
        known = shlex.split(before.replace("~", os.fspath(home)))
        assert words[: len(known)] == known
        assert sorted(_whole(last, words[len(known) :])) == (expected or [last]), (before, last)
    for option in ("--var fr", "--var=fr"):  # what has no value yet goes on without a space
        shell.type(f"sandboxfile plan {option}\t7 more\x01answer \r")
        assert shell.answer()[-2:] == [option.replace("fr", "free=7").split()[-1], "more"]


def _whole(last: str, words: list[str]) -> list[str]:
    """Return words of which bash has inserted only what comes after `=` and `:`, but for one."""
    before = last.removesuffix(re.split("[=:]", last)[-1])
    return [word if word.startswith(before) else before + word for word in words]


def test_fish_completes_what_is_typed(typist: User) -> None:
    needs("fish")
    script = typist.home / "sandboxfile.fish"
    script.write_text(typist.run("completion", "fish").out)
    lines = " ".join(shlex.quote(f"{before} {last}") for before, last, _ in LINES)
    ask = f'source {script}; for line in {lines}; echo "<$line"; complete -C $line; end'
    done = typist.process(["fish", "--no-config", "-c", ask])
    assert (done.returncode, done.stderr) == (0, "")

    said = [block.split("\n")[1:-1] for block in done.stdout.split("<")[1:]]
    found = [[line.partition("\t")[0].rstrip("/") for line in lines] for lines in said]
    for (before, last, expected), words in zip(LINES, found, strict=True):
        assert sorted(words) == expected, (before, last)
