"""Where layers of builds are kept: for the workspace, or for one target."""

from collections.abc import Callable

from sandboxfile.model import BuildCache, Workspace

Read = Callable[[str], Workspace]

HEAD = "version: 1\nbase: debian:12\nname: api\n"


def test_a_cache_is_one_place_or_several(read: Read) -> None:
    assert read(HEAD).cache is None
    assert read(f"{HEAD}cache:\n").cache is None
    assert read(f"{HEAD}cache: {{to: ghcr.io/acme/cache}}\n").cache == BuildCache(
        to=("ghcr.io/acme/cache",)
    )
    text = "cache: {to: 'type=local,dest=.c', from: [a/b, type=gha, 'type=local,src=.c']}\n"
    assert read(HEAD + text).cache == BuildCache(
        to=("type=local,dest=.c",), from_=("a/b", "type=gha", "type=local,src=.c")
    )
    assert read(f"{HEAD}cache: {{to: [], from: }}\n").cache == BuildCache()


def test_a_target_may_have_its_own(read: Read) -> None:
    found = read(
        f"{HEAD}cache: {{from: a/b}}\ntargets:\n  prod: {{provider: novita, cache: {{to: c/d}}}}\n"
    )
    assert found.cache == BuildCache(from_=("a/b",))
    assert found.targets["prod"].cache == BuildCache(to=("c/d",))
    assert found.targets["local"].cache is None
