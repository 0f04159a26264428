"""Options for caches: what is written, for one template."""

from pathlib import Path

import pytest

from sandboxfile import buildcache

ROOT = Path("/repo")


@pytest.mark.parametrize(
    ("written", "to", "from_"),
    [
        (
            "ghcr.io/acme/cache",
            "type=registry,ref=ghcr.io/acme/cache:web,mode=max",
            "type=registry,ref=ghcr.io/acme/cache:web",
        ),
        (
            "127.0.0.1:5000/cache:all",
            "type=registry,ref=127.0.0.1:5000/cache:all,mode=max",
            "type=registry,ref=127.0.0.1:5000/cache:all",
        ),
        (
            "type=registry,ref=127.0.0.1:5000/cache,mode=min",
            "type=registry,ref=127.0.0.1:5000/cache:web,mode=min",
            "type=registry,ref=127.0.0.1:5000/cache:web,mode=min",
        ),
        ("type=gha", "type=gha,scope=web", "type=gha,scope=web"),
        ("type=gha,scope=all", "type=gha,scope=all", "type=gha,scope=all"),
        ("type=s3,bucket=b", "type=s3,bucket=b,name=web", "type=s3,bucket=b,name=web"),
        ("type=inline", "type=inline", "type=inline"),
    ],
)
def test_each_template_has_a_cache_of_its_own(written: str, to: str, from_: str) -> None:
    assert buildcache.exported(written, "web", ROOT) == to
    assert buildcache.imported(written, "web", ROOT) == from_
    assert buildcache.is_inline(written) == (written == "type=inline")


def test_a_local_cache_is_a_directory_of_the_workspace() -> None:
    assert buildcache.exported("type=local,dest=.cache", "web", ROOT) == (
        "type=local,dest=/repo/.cache/web"
    )
    assert buildcache.imported('"type=local","src=a,b"', "web", ROOT) == (
        'type=local,"src=/repo/a,b/web"'
    )


@pytest.mark.parametrize("written", ["type=gha,mode", "=x", 'type=local,"dest=a'])
def test_what_buildx_would_not_read_is_no_option(written: str) -> None:
    with pytest.raises(ValueError, match=r"name=value|unexpected end|expected"):
        buildcache.fields(written)
