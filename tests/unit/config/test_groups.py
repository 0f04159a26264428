"""Groups have names, globs and other groups."""

from collections.abc import Callable

from sandboxfile.model import Workspace


def test_a_group_has_its_templates_in_the_order_of_the_workspace(
    workspace: Callable[..., Workspace],
) -> None:
    found = workspace(
        "version: 1\nmembers: [m]\ntemplates:\n"
        "  agent: {base: a, matrix: {v: [x, y]}}\n  web: {base: a}\n  worker: {base: a}\n"
        "groups:\n  default: [site, agent-y]\n  site: [web, w*, site2]\n"
        "  site2: ['m:*', both, both]\n"
        "  both: [agent, 'm:in']\n  none: []\n  x-note: {a: b}\n",
        {"m/novita.yaml": "version: 1\ntemplates: {in: {base: a, name: inside}}\n"},
    ).groups
    assert found == {
        "default": ("agent-x", "agent-y", "web", "worker", "inside"),
        "site": ("agent-x", "agent-y", "web", "worker", "inside"),
        "site2": ("agent-x", "agent-y", "inside"),
        "both": ("agent-x", "agent-y", "inside"),
        "none": (),
    }
