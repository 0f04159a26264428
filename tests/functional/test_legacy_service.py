"""What a service of the first generation does not have is done without, or by what it has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.quickplace import Place, quick_place

# What later services have: docs/protocol.md, 2 ([E]), 3 and 4.
LACKS = re.compile(r"/v[23]/|/templates/(aliases/|tags)|GET /templates/[^/]+(/tags|/files/.*)?$")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with quick_place(tmp_path, more=", api: v1") as made:
        yield made


def test_templates_are_listed_and_deleted_by_the_first_calls_there_were(place: Place) -> None:
    ours, others = (place.ready(name, "default") for name in ("a", "others"))
    place.keep("a", ours)
    place.service.lacks = LACKS

    listed = place.run("list", "--remote", "--json")

    rows = json.loads(listed.stdout)["templates"]
    assert {row["name"]: (row["template_id"], row["lock"]) for row in rows} == {
        "a": (ours.template_id, "a"),
        "others": (others.template_id, None),
    }
    assert "the service of target `far` has no tags" in listed.stderr

    place.run("delete", "a", "others", "--yes")

    assert (place.names, dict(place.workspace.entries)) == (set(), {})
    asked = {f"{each.method} {each.path.partition('?')[0]}" for each in place.service.asked}
    deleted = {f"DELETE /templates/{each.template_id}" for each in (ours, others)}
    assert asked == {"GET /templates", *deleted}
