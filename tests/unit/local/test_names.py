import pytest

from sandboxfile.local import names
from sandboxfile.local.names import Name

UUID = "3c52915f-59fc-4890-beeb-f249c4ae906c"


@pytest.mark.parametrize(
    ("text", "namespace", "alias", "tag"),
    [
        ("app", None, "app", None),
        ("  App-1 : V2.0_x ", None, "app-1", "v2.0_x"),
        ("local/app", "local", "app", None),
        (" Team / app :stable", "team", "app", "stable"),
        (f"app:{UUID}", None, "app", UUID),
        ("app:default", None, "app", "default"),
    ],
)
def test_a_name_is_taken_apart(
    text: str, namespace: str | None, alias: str, tag: str | None
) -> None:
    assert names.parse(text) == Name(namespace=namespace, alias=alias, tag=tag)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "template name '' must match"),
        ("a b", "template name 'a b' must match"),
        ("ä", "template name 'ä' must match"),
        ("a.b", "template name 'a.b' must match"),
        ("/app", "namespace '' must match"),
        ("a/b/c", "namespace 'a/b' must match"),
        ("app:", "tag '' must match"),
        ("app:a/b", "tag 'a/b' must match"),
        ("app:a:b", "tag 'a:b' must match"),
        ("a" * 129, "longer than 128"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        names.parse(text)


def test_without_a_tag_the_default_one_is_wanted() -> None:
    assert names.parse("app").wanted_tag == "default"
    assert names.parse("app:v1").wanted_tag == "v1"


def test_a_tag_of_a_list_is_normalised_and_no_uuid() -> None:
    assert names.parse_tag("  V1.0 ") == "v1.0"
    with pytest.raises(ValueError, match="tag cannot be a UUID"):
        names.parse_tag(UUID.upper())
    with pytest.raises(ValueError, match="tag 'a b' must match"):
        names.parse_tag("a b")
