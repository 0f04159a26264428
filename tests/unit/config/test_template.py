"""What a template says beside its instructions, with defaults and places."""

from collections.abc import Callable

import pytest

from sandboxfile.model import Resources, Template, Workspace
from sandboxfile.places import Position

Read = Callable[[str], Template]


def test_a_template_without_anything_has_the_defaults_of_the_service(template: Read) -> None:
    read = template("")
    assert (read.user, read.workdir, read.start, read.ready, read.pre_boot) == (None,) * 5
    assert read.resources == Resources(cpu=2, memory=1024)
    assert read.tags == ()


@pytest.mark.parametrize(
    ("text", "inherit"),
    [
        ("", ("start", "user", "workdir")),
        ("inherit:\n", ("start", "user", "workdir")),
        ("inherit: true\n", ("start", "user", "workdir")),
        ("inherit: false\n", ()),
        ("inherit: []\n", ()),
        ("inherit: [workdir, user, user]\n", ("user", "workdir")),
        ('variables: {a: {default: "true"}}\ninherit: "${var.a}"\n', ("start", "user", "workdir")),
        ('variables: {a: {default: "false"}}\ninherit: "${var.a}"\n', ()),
    ],
)
def test_what_is_inherited_is_all_nothing_or_listed(
    template: Read, text: str, inherit: tuple[str, ...]
) -> None:
    assert template(text).inherit == inherit


def test_a_template_knows_where_each_key_was_written(template: Read) -> None:
    read = template("start: a\nx-note: b\nuser:\n")
    assert dict(read.places) == {
        "base": Position("novita.yaml", 2, 1),
        "start": Position("novita.yaml", 3, 1),
    }
    assert read.at == Position("novita.yaml", 1, 1)


def test_an_inherited_key_is_where_it_was_written(read: Callable[[str], Workspace]) -> None:
    text = "version: 1\ntemplates:\n  a:\n    base: x\n    start: y\n  b:\n    extends: a\n"
    template = read(text).templates["b"]
    assert template.place("start") == Position("novita.yaml", 5, 5)
    assert template.place("run") == template.at == Position("novita.yaml", 6, 3)


@pytest.mark.parametrize(
    ("text", "kind", "value", "status"),
    [
        ("test -e /x", "command", "test -e /x", 200),
        ("{command: 'a $$ b'}", "command", "a $ b", 200),
        ("{url: 'http://localhost:80/'}", "url", "http://localhost:80/", 200),
        ("{url: 'http://localhost:80/', status: 204}", "url", "http://localhost:80/", 204),
        ("{port: 8000}", "port", "8000", 200),
        ("{file: /tmp/ok}", "file", "/tmp/ok", 200),
        ("{process: nginx}", "process", "nginx", 200),
        ("{delay: 2m}", "delay", "120", 200),
        ("|\n  one line\n", "command", "one line", 200),
    ],
)
def test_readiness(template: Read, text: str, kind: str, value: str, status: int) -> None:
    ready = template(f"ready: {text}").ready
    assert ready is not None
    assert (ready.kind, ready.value, ready.status) == (kind, value, status)


@pytest.mark.parametrize(
    ("text", "resources"),
    [
        ("{}", Resources()),
        ("{cpu: 1}", Resources(cpu=1)),
        ("{cpu: 32, memory: 128}", Resources(cpu=32, memory=128)),
        ("{memory: 2GiB}", Resources(memory=2048)),
        ("{memory: null, cpu: null}", Resources()),
    ],
)
def test_resources(template: Read, text: str, resources: Resources) -> None:
    assert template(f"resources: {text}").resources == resources


def test_tags_stay_as_written(template: Read) -> None:
    read = template('tags: [stable, "v-${git.sha}", "${key}"]')
    assert read.tags == ("stable", "v-${git.sha}", "${key}")


def test_a_start_command_may_be_a_block_of_one_line(template: Read) -> None:
    assert template("start: |\n  python -m app\n").start == "python -m app"
    assert template("start: >\n  python\n  -m app\n").start == "python -m app"


def test_a_script_before_booting_may_have_many_lines(template: Read) -> None:
    assert template("pre_boot: |\n  a\n  b\n").pre_boot == "a\nb\n"
