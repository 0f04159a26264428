"""A pattern is compiled when it is first used, and then as good as one of `re`."""

import re
import subprocess
import sys

import pytest

from sandboxfile.patterns import regex


def test_it_matches_as_one_that_was_compiled_at_once() -> None:
    later, text = regex(r"(?P<word>[a-z]+)=", re.IGNORECASE), "x A= b=" * 2
    at_once = re.compile(r"(?P<word>[a-z]+)=", re.IGNORECASE)
    for _ in range(2):
        assert [m.span() for m in later.finditer(text)] == [
            m.span() for m in at_once.finditer(text)
        ]
        found = later.search(text)
        assert found is not None
        assert found["word"] == "A"
        assert later.match(text) is None
        assert later.fullmatch("ab=") is not None
        assert later.sub("-", text) == at_once.sub("-", text)
        assert later.split(text) == at_once.split(text)
    assert (later.pattern, later.flags, later.groups) == (
        at_once.pattern,
        at_once.flags,
        at_once.groups,
    )


def test_a_fault_in_it_is_told_when_it_is_used() -> None:
    broken = regex("(")
    for _ in range(2):
        with pytest.raises(re.error, match="missing"):
            broken.match("")


COMPILING = """
import re, sys
own, compile = set(), re.compile
def noted(*args, **options):
    own.add(sys._getframe(1).f_globals["__name__"])
    return compile(*args, **options)
re.compile = noted
import sandboxfile.commands.build, sandboxfile.asking, sandboxfile.running, sandboxfile.show
import sandboxfile.engines.choose, sandboxfile.targets.novita_v3, sandboxfile.screens
print(*sorted(name for name in own if name.startswith("sandboxfile")))
"""


def test_what_a_build_imports_compiles_nothing_but_what_reads_the_lock() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", COMPILING], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["sandboxfile.locktext"]
