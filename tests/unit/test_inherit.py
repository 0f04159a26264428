"""What a template takes over from its image and from the template it is built on."""

from dataclasses import replace

import pytest

from sandboxfile import inherit
from sandboxfile.inherit import Inherited
from sandboxfile.model import Account, Env, ImageBase, ImageConfig, Ready, Resources, Template
from sandboxfile.places import Position

AT = Position("novita.yaml", 1, 1)
PORT = Ready(kind="port", value="80", at=AT)
FILE = Ready(kind="file", value="/ok", at=AT)
PLAIN = Template(
    name="a",
    base=ImageBase(image="x", at=AT),
    instructions=(),
    user=None,
    workdir=None,
    start=None,
    ready=None,
    resources=Resources(),
    tags=(),
    pre_boot=None,
    at=AT,
)
SAYS_ALL = replace(PLAIN, user="me", workdir="/me", start="mine", ready=PORT)
IMAGE = ImageConfig(
    env={"PATH": "/opt/bin", "HOME": "/root", "A": "image", "my-var": "x", "EMPTY": ""},
    user="node:staff",
    workdir="/app",
    entrypoint=("docker-entrypoint.sh",),
    cmd=("node", "my server.js"),
)


def test_everything_that_the_template_does_not_say_is_taken_over() -> None:
    assert inherit.inherited(PLAIN, IMAGE) == Inherited(
        env={"PATH": "/opt/bin", "A": "image", "EMPTY": ""},
        user="node",
        workdir="/app",
        start="docker-entrypoint.sh node 'my server.js'",
    )
    filled = inherit.applied(PLAIN, IMAGE)
    assert (filled.user, filled.workdir) == ("node", "/app")
    assert filled.start == "docker-entrypoint.sh node 'my server.js'"
    assert filled.ready is None


def test_what_the_template_says_stays() -> None:
    found = inherit.inherited(SAYS_ALL, IMAGE)
    assert (found.user, found.workdir, found.start) == (None, None, None)
    assert inherit.applied(SAYS_ALL, IMAGE) == SAYS_ALL


def test_the_templates_variables_lie_over_those_of_the_image() -> None:
    template = replace(
        PLAIN,
        instructions=(
            Env(values={"A": "1", "B": "2"}, at=AT),
            Account(user="me", at=AT),
            Env(values={"A": "3"}, at=AT),
        ),
    )
    found = inherit.environment(template, IMAGE)
    assert found == {"PATH": "/opt/bin", "A": "3", "B": "2", "EMPTY": ""}


@pytest.mark.parametrize("kept", ["start", "user", "workdir"])
def test_what_is_not_to_be_inherited_is_left(kept: str) -> None:
    rest = tuple(each for each in PLAIN.inherit if each != kept)
    found = inherit.inherited(replace(PLAIN, inherit=rest), IMAGE)
    assert getattr(found, kept) is None
    assert all(getattr(found, each) for each in rest)


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("", None),
        ("root", None),
        ("0", None),
        ("root:adm", None),
        ("0:0", None),
        ("1000", None),
        ("1000:1000", None),
        ("node", "node"),
        ("node:node", "node"),
        ("a b", None),
        ("-x", None),
    ],
)
def test_users_are_taken_over_by_name(written: str, user: str | None) -> None:
    assert inherit.user(ImageConfig(user=written)) == user


@pytest.mark.parametrize(
    ("written", "path"), [("", None), ("/", None), ("//", None), ("app", None), ("/app/", "/app/")]
)
def test_a_working_directory_is_an_absolute_path_other_than_the_root(
    written: str, path: str | None
) -> None:
    assert inherit.workdir(ImageConfig(workdir=written)) == path


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "start"),
    [
        ("", "", None),
        ("", "bash", None),
        ("", "/bin/bash -l", None),
        ("", "python3", None),
        ("", "/usr/local/bin/python3.12", None),
        ("", "pypy3.10-7.3", None),
        ("", "perl5.36.0 -de0", None),
        ("", "R", None),
        ("docker-entrypoint.sh", "node", None),
        ("tini -- python3", "", None),
        ("tini --", "serve -x", "tini -- serve -x"),
        ("/bin/sh", "", None),
        ("/bin/bash", "-l", None),
        ("", "/bin/sh -c irb", None),
        ("", "sh -c serve", "sh -c serve"),
        ("", "sh -e", "sh -e"),
        ("", "python3 -m app", "python3 -m app"),
        ("", "node server.js", "node server.js"),
        ("nginx", "", "nginx"),
        ("redis.sh", "redis-server", "redis.sh redis-server"),
    ],
)
def test_a_shell_that_waits_for_input_is_no_start_command(
    entrypoint: str, cmd: str, start: str | None
) -> None:
    config = ImageConfig(entrypoint=tuple(entrypoint.split()), cmd=tuple(cmd.split()))
    assert inherit.start(config) == start


def test_the_shell_form_is_looked_into() -> None:
    assert inherit.start(ImageConfig(cmd=("/bin/sh", "-c", "exec bash"))) is None
    assert inherit.start(ImageConfig(cmd=("/bin/sh", "-c", "a; b"))) == "/bin/sh -c 'a; b'"


def test_a_child_takes_over_what_its_parent_says() -> None:
    child = inherit.of_parent(PLAIN, SAYS_ALL)
    assert (child.user, child.workdir, child.start, child.ready) == ("me", "/me", "mine", PORT)
    own = replace(PLAIN, user="u", workdir="/u", start="s")
    assert inherit.of_parent(own, SAYS_ALL) == own


def test_a_parents_ready_check_comes_with_its_start_command_alone() -> None:
    assert inherit.of_parent(replace(PLAIN, start="other"), SAYS_ALL).ready is None
    both = inherit.of_parent(replace(PLAIN, ready=FILE), SAYS_ALL)
    assert (both.start, both.ready) == ("mine", FILE)
    # What the parent starts may be its image's.
    assert inherit.of_parent(PLAIN, replace(PLAIN, ready=PORT)).ready == PORT


def test_a_child_can_refuse_and_never_gets_past_its_parent_what_that_refused() -> None:
    nothing = replace(PLAIN, inherit=())
    assert inherit.of_parent(nothing, SAYS_ALL) == nothing
    assert inherit.of_parent(PLAIN, nothing).inherit == ()


def test_what_comes_from_a_parent_is_where_the_parent_says_it() -> None:
    there = Position("novita.yaml", 7, 3)
    parent = replace(SAYS_ALL, places={"start": there, "base": there, "user": there})
    child = inherit.of_parent(replace(PLAIN, places={"user": AT}), parent)
    assert dict(child.places) == {"start": there, "user": AT}


def test_a_template_that_says_everything_or_wants_nothing_asks_its_image_for_nothing() -> None:
    assert inherit.is_open(PLAIN)
    assert inherit.is_open(replace(SAYS_ALL, user=None))
    assert not inherit.is_open(SAYS_ALL)
    assert not inherit.is_open(replace(PLAIN, inherit=()))


def test_the_image_of_a_template_says_what_its_base_did_and_what_was_added() -> None:
    template = replace(PLAIN, workdir="/srv", instructions=(Env(values={"A": "1"}, at=AT),))
    found = inherit.onwards(template, IMAGE)
    assert found == replace(IMAGE, user="node", workdir="/srv", env={**IMAGE.env, "A": "1"})
    assert inherit.onwards(replace(PLAIN, inherit=()), IMAGE).user == "root"
