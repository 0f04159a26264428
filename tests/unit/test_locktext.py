"""The short way to read takes what is written, and nothing that would be written otherwise."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxfile import lockfile
from sandboxfile.entries import Entries, Entry, Lock
from sandboxfile.locktext import HEADER, quick, render

KEY = "sf1:" + "9f86d081" * 8
# Among them what is in quotes, since YAML would take it for a number, a truth value or a date.
NAMES = st.sampled_from(["api", "on", "1e5", "12345678", "a-b", "null", "2026-01-01", "0b123456"])
DIGITS = st.sampled_from(["1234abcd", "12345678", "1234e567", "0b12abcd", "bbbbeeee", "00000000"])
IDS = st.one_of(NAMES, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True))
ENTRIES = st.builds(
    Entry,
    template_id=IDS,
    build_id=IDS,
    image_key=st.just(KEY),
    template_key=st.just(KEY),
    image=st.sampled_from(["", "r/a@sha256:" + "0" * 64, "[::1]:5/a", "12:30", "a:"]),
    parts=st.dictionaries(st.sampled_from(["base", "env", "no", "on"]), DIGITS),
    parent=st.one_of(st.none(), NAMES),
    tags=st.one_of(st.none(), st.lists(NAMES, unique=True).map(lambda names: tuple(sorted(names)))),
    moved=st.dictionaries(NAMES, IDS, max_size=2),
)
BASES = st.sampled_from(["python:3.12 linux/amd64", "a: b", '"quoted"', "on", "x:"])
LOCKS = st.builds(
    Lock,
    resolved=st.dictionaries(BASES, st.just("sha256:" + "0" * 64)),
    targets=st.dictionaries(NAMES, st.dictionaries(NAMES, ENTRIES, max_size=3), max_size=3),
)


@settings(deadline=None)
@given(LOCKS)
def test_what_is_written_is_read_in_the_short_way(lock: Lock) -> None:
    assert quick(render(lock)) == lock


@settings(deadline=None)
@given(LOCKS)
def test_what_is_known_to_be_written_so_says_the_same(lock: Lock) -> None:
    text = render(lock)
    known = quick(text, is_known=True)
    assert known is not None
    assert {name: dict(each) for name, each in known.targets.items()} == lock.targets
    assert known.resolved == lock.resolved
    assert render(known) == text
    assert known == lock


@st.composite
def edited(draw: st.DrawFn) -> str:
    """A lock that somebody has edited: a character, some lines, or part of one."""
    text = render(draw(LOCKS))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    match draw(st.sampled_from(["characters", "word", "lines", "order"])):
        case "characters":
            new = draw(st.text(alphabet=" \t\n\r:,{}[]\"'\\#abe01-_\x85\u2028", max_size=2))
            return text[:start] + new + text[end:]
        case "word":
            words = ["on", "12345678", "sf1:" + "0" * 63, "[]", "{}", '"api"', "A", "", "a, a"]
            lines = text.split("\n")
            at = draw(st.integers(0, len(lines) - 1))
            key = lines[at].partition(": ")[0]
            lines[at] = f"{key}: {draw(st.sampled_from(words))}"
            return "\n".join(lines)
        case "lines":
            lines = text.split("\n")
            at = draw(st.integers(0, len(lines) - 1))
            many = draw(st.integers(0, 12))
            return "\n".join([*lines[:at], *lines[at : at + many] * 2, *lines[at + many :]])
        case _:
            lines = text.split("\n")
            at = draw(st.integers(0, len(lines) - 1))
            return "\n".join([*lines[: at - 1], *lines[at - 1 : at + 1][::-1], *lines[at + 1 :]])


@settings(deadline=None, max_examples=400)
@given(edited())
def test_what_would_be_written_otherwise_is_left_to_the_long_way(text: str) -> None:
    found = quick(text)
    if found is not None:
        assert render(found) == text
        assert lockfile._careful(text, "novita.lock") == found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"),
        ("    api:\n", "    api :\n"),
        ("  prod:\n", "  prod: {}\n"),
        ("tags: [a, b]", "tags: [b, a]"),
        ("tags: [a, b]", "tags: [a, a]"),
        ("{base: 1234abcd, env: 00ab0000}", "{env: 00ab0000, base: 1234abcd}"),
        ("{base: 1234abcd, env: 00ab0000}", "{env: 00ab0000, env: 1234abcd}"),
        ("base: 1234abcd", "base: 12345678"),
        ("build_id: b1", "build_id: true"),
        ("build_id: b1", 'build_id: "b1"'),
        ("build_id: b1", 'build_id: "b1'),
        ("template_id: t1", "template_id: ä"),
        ("\n  prod:\n", "\n  prod: {}\n  prod:\n"),
    ],
)
def test_another_form_is_not_read_in_the_short_way(old: str, new: str) -> None:
    entry = Entry(
        template_id="t1",
        build_id="b1",
        image_key=KEY,
        template_key=KEY,
        tags=("a", "b"),
        parts={"base": "1234abcd", "env": "00ab0000"},
    )
    text = render(Lock(targets={"prod": {"api": entry}}))
    assert quick(text) is not None
    assert old in text
    assert quick(text.replace(old, new)) is None


@pytest.mark.parametrize("rest", ["", "resolved:\n", "targets:\n", "x: 1\n"])
def test_a_lock_says_what_it_has(rest: str) -> None:
    assert (quick(f"{HEADER}\nversion: 1\n{rest}") == Lock()) == (not rest)


def lock_of(**entries: Entry) -> Lock:
    return Lock(targets={"prod": entries})


def built(build_id: str, **values: Any) -> Entry:
    keys = {"image_key": KEY, "template_key": KEY}
    return Entry(template_id="t1", build_id=build_id, **{**keys, **values})


def test_what_a_run_does_not_ask_for_is_written_as_it_stands() -> None:
    lock = quick(render(lock_of(api=built("b1", tags=("a", "b")), web=built("b2"))))
    assert lock is not None
    changed = lock.with_entry("prod", "web", built("b3"))
    entries = changed.targets["prod"]
    assert isinstance(entries, Entries)
    assert [entries.text(name) is not None for name in entries] == [True, False]
    assert render(changed) == render(lock_of(api=built("b1", tags=("a", "b")), web=built("b3")))
    assert render(changed.without_entry("prod", "web")) == render(
        lock_of(api=built("b1", tags=("a", "b")))
    )


def test_locks_are_the_same_by_what_they_say_however_they_came_about() -> None:
    made = lock_of(api=built("b1"), web=built("b2"))
    lock = quick(render(made))
    assert lock is not None
    assert lock == made
    assert lock.with_entry("prod", "api", built("b1")) == lock
    assert lock.with_entry("prod", "api", built("b3")) != lock
    assert lock.with_entry("prod", "app", built("b3")) != lock
    assert lock.without_entry("prod", "api").with_entry("prod", "app", built("b1")) != lock
    assert lock.targets["prod"] != {}
    assert "api" in lock.targets["prod"]
    assert "app" not in lock.targets["prod"]


@pytest.mark.parametrize(
    "word", ["on", "null", "12345678", "1234e567", "0b12abcd", "0xab", "0o17", "2026-01-01", "1_0"]
)
def test_a_word_that_needs_quotes_is_not_taken_without_them(word: str) -> None:
    text = render(lock_of(api=built("b1", parent="base", tags=("stable",))))
    for key in ("build_id: b1", "template_id: t1", "parent: base", "tags: [stable]"):
        name, _, old = key.partition(": ")
        bare = text.replace(key, f"{name}: {old.replace(old.strip('[]'), word)}")
        assert quick(bare) is None
        assert render(lockfile._careful(text, "novita.lock")) == text
