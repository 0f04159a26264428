"""What a word stands for: a published name, a key, `path:name`, the variants of a matrix."""

import pytest

from sandboxfile.config.names import Named, Names, is_glob

NAMES = Names.of(
    [
        Named("base", "base"),
        Named("agent-stable", "agent", "a", {"channel": "stable"}),
        Named("agent-edge", "agent", "a", {"channel": "edge"}),
        Named("a-api", "api", "a"),
        Named("b-api", "api", "b/c"),
        Named("web", "site", "b/c"),
    ]
)


@pytest.mark.parametrize(
    ("word", "member", "expected"),
    [
        ("base", None, {":base": ("base",)}),
        ("web", None, {"b/c:web": ("web",)}),
        ("site", None, {"b/c:site": ("web",)}),
        ("agent", None, {"a:agent": ("agent-stable", "agent-edge")}),
        ("agent-edge", None, {"a:agent-edge": ("agent-edge",)}),
        ("api", None, {"a:api": ("a-api",), "b/c:api": ("b-api",)}),
        ("api", "", {"a:api": ("a-api",), "b/c:api": ("b-api",)}),
        ("api", "b/c", {"b/c:api": ("b-api",)}),
        ("a:api", None, {"a:api": ("a-api",)}),
        ("a:a-api", None, {"a:a-api": ("a-api",)}),
        ("./b/x/../c/:web", None, {"b/c:web": ("web",)}),
        (":base", "a", {":base": ("base",)}),
        (".:base", None, {":base": ("base",)}),
        ("a:web", None, {}),
        ("a:agent", "b/c", {"a:agent": ("agent-stable", "agent-edge")}),
        ("nothing", "a", {}),
        ("a:nothing", None, {}),
    ],
)
def test_a_word_and_its_meanings(
    word: str, member: str | None, expected: dict[str, tuple[str, ...]]
) -> None:
    assert NAMES.find(word, member) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ("base", "agent-stable", "agent-edge", "a-api", "b-api", "web")),
        ("agent*", ("agent-stable", "agent-edge")),
        ("agen?", ("agent-stable", "agent-edge")),
        ("[ab]-api", ("a-api", "b-api")),
        ("b*:*", ("b-api", "web")),
        ("*:api", ("a-api", "b-api")),
        ("b/c:*", ("b-api", "web")),
        ("x*", ()),
    ],
)
def test_a_glob_matches_names_keys_and_addresses(pattern: str, expected: tuple[str, ...]) -> None:
    assert is_glob(pattern)
    assert NAMES.matching(pattern) == expected


def test_all_words_are_listed_names_first() -> None:
    words = ("base", "agent-stable", "agent-edge", "a-api", "b-api", "web", "agent", "api", "site")
    assert NAMES.words() == NAMES.words("x") == words
    assert NAMES.words("a:x") == (":base", "a:agent", "a:api", "b/c:api", "b/c:site")


def test_of_two_with_one_name_the_first_is_known_by_it() -> None:
    names = Names.of([Named("x", "one", "a"), Named("x", "two", "b")])
    assert names.find("x") == {"a:x": ("x",)}
    assert not is_glob("x")
