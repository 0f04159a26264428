"""What a template can be made of: Dockerfiles, other templates, secrets, environment, users."""

import os
from collections.abc import Callable

import pytest

from sandboxfile.engines import Engine
from tests.conftest import needs
from tests.fakes.shell import Ran, User

pytestmark = pytest.mark.engine

DOCKERFILE = """\
ARG BASE={base}
FROM ${{BASE}} AS maker
ARG TITLE=untitled
RUN --mount=type=cache,target=/var/cache/made \\
    echo "{nonce} $TITLE" > /made && echo kept >> /var/cache/made/list
COPY src/ /src/

FROM $BASE AS wanted
COPY --from=maker /made /src/main.txt /srv/
ENV FROM_DOCKERFILE="of the Dockerfile"

FROM wanted AS unwanted
RUN exit 1
"""
CONFIG = """\
version: 1
templates:
  fn-own:
    base:
      dockerfile: docker/Dockerfile
      context: docker
      stage: wanted
      args: {TITLE: "a title"}
    env: {ADDED: "on top"}
    run: [cat /srv/made > /srv/again]
    start: cat /srv/again > /tmp/started; sleep 600
    ready: until test -s /tmp/started; do sleep 0.1; done
    resources: {cpu: 1, memory: 128}
"""


def inside(user: User, template: str, script: str) -> Ran:
    ran = user.command("run", template, "--", "sh", "-c", script)
    assert ran.code == 0, ran.err
    return ran


def test_a_dockerfile_is_a_base(
    user: User, base: str, nonce: str, images: Callable[[str], None]
) -> None:
    images("fn-own")
    user.write("novita.yaml", CONFIG)
    user.write("docker/Dockerfile", DOCKERFILE.format(base=base, nonce=nonce))
    user.write("docker/src/main.txt", "main\n")
    user.write("docker/notes.md", "not for the image\n")
    user.write("docker/.dockerignore", "*.md\n")

    ran = user.build()
    said = inside(
        user,
        "fn-own",
        'cat /srv/* /tmp/started; echo "$FROM_DOCKERFILE, $ADDED"; ls /src 2>&1; true',
    )

    assert ran.done == {f"{step}:fn-own" for step in ("build", "push", "snapshot", "tag")}
    assert said.out == (
        f"{nonce} a title\n{nonce} a title\nmain\n{nonce} a title\n"
        "of the Dockerfile, on top\nls: /src: No such file or directory\n"
    )

    # What the context does not have for the image does not matter; the rest does.
    user.write("docker/notes.md", "changed\n")
    assert user.build().done == set()
    user.write("docker/src/main.txt", "changed\n")
    assert "build:fn-own" in user.build().done
    assert inside(user, "fn-own", "cat /srv/main.txt").out == "changed\n"
    user.replace("novita.yaml", "a title", "another title")
    assert "build:fn-own" in user.build().done


def test_a_step_of_a_dockerfile_that_fails_is_told_with_its_own_line(
    user: User, base: str, nonce: str, images: Callable[[str], None]
) -> None:
    images("fn-own")
    user.write("novita.yaml", CONFIG.replace("stage: wanted", "stage: unwanted"))
    user.write("docker/Dockerfile", DOCKERFILE.format(base=base, nonce=nonce))
    user.write("docker/src/main.txt", "main\n")

    ran = user.run("build")

    assert ran.code == 1
    assert "docker/Dockerfile:13:1: error: " in ran.err
    assert "13 | RUN exit 1" in ran.err


def test_here_documents_are_run_or_refused_but_never_skipped(
    user: User, base: str, nonce: str, images: Callable[[str], None], engine: Engine
) -> None:
    images("fn-heredoc")
    user.write("Dockerfile", f"FROM {base}\nRUN <<EOF\necho {nonce} > /srv-heredoc\nEOF\n")
    user.write("novita.yaml", "version: 1\nname: fn-heredoc\nbase: {dockerfile: Dockerfile}\n")

    ran = user.run("build")

    if "heredoc" in engine.info().can:
        assert ran.code == 0, ran.err
        assert inside(user, "fn-heredoc", "cat /srv-heredoc").out == f"{nonce}\n"
    else:
        assert ran.code == 1
        assert "error: the Dockerfile uses here-documents, which docker" in ran.err
        assert "hint: use Docker Engine 23 or newer" in ran.err


def test_a_chain_of_templates(
    user: User, base: str, nonce: str, images: Callable[[str], None]
) -> None:
    names = [f"fn-chain-{number}" for number in range(3)]
    text = "version: 1\ndefaults: {resources: {cpu: 1, memory: 128}}\ntemplates:\n"
    for name, of in zip(names, [base, *(f"{{template: {n}}}" for n in names)], strict=False):
        images(name)
        text += f"  {name}:\n    base: {of}\n    run: [echo {name} {nonce} >> /srv-chain]\n"
    user.write("novita.yaml", text)

    ran = user.build(names[2])

    assert {job.partition(":")[2] for job in ran.done} == set(names)
    said = inside(user, names[2], "cat /srv-chain").out
    assert said == "".join(f"{name} {nonce}\n" for name in names)


def test_the_environment_is_there_at_run_time(
    user: User, base: str, nonce: str, images: Callable[[str], None]
) -> None:
    images("fn-env")
    hard = "a \"b\" 'c' $HOME ${X} \\n `d` #e"
    user.write(
        "novita.yaml",
        f"version: 1\nname: fn-env\nbase: {base}\nresources: {{cpu: 1, memory: 128}}\n"
        f"env:\n  NONCE: {nonce}\n  HARD: {hard.replace('$', '$$')!r}\n".replace(
            repr(hard.replace("$", "$$")), "|-\n    " + hard.replace("$", "$$")
        )
        + 'user: user\nworkdir: /home/user/app\nstart: printf %s "$HARD" > /tmp/start; sleep 600\n'
        "ready: until test -s /tmp/start; do sleep 0.1; done\n"
        'run: [printf %s "$HARD" > /srv-build]\n',
    )
    user.build()

    show = 'printf "%s\\n" "$HARD"'
    assert inside(user, "fn-env", show).out == f"{hard}\n"
    login = user.command("run", "fn-env", "--", "sh", "-lc", show)
    profile = f". /etc/profile.d/99-image-env.sh; {show}"  # what /etc/profile does on Debian
    clean = user.command("run", "fn-env", "--", "env", "-i", "/bin/sh", "-c", profile)
    assert (login.out, clean.out) == (f"{hard}\n", f"{hard}\n"), login.err + clean.err
    assert inside(user, "fn-env", "cat /srv-build; echo; cat /tmp/start").out == f"{hard}\n{hard}"
    assert inside(user, "fn-env", "id -un; pwd; stat -c %U .").out == (
        "user\n/home/user/app\nuser\n"
    )


def test_owner_mode_and_own_order(
    user: User, base: str, nonce: str, images: Callable[[str], None]
) -> None:
    images("fn-steps")
    user.write("a.txt", nonce)
    user.write("b/one.log", "1")
    user.write("b/two.txt", "2")
    user.write(
        "novita.yaml",
        f"""\
version: 1
name: fn-steps
base: {base}
resources: {{cpu: 1, memory: 128}}
steps:
  - run: mkdir /srv && echo first > /srv/order
  - copy: {{from: a.txt, to: /srv/renamed, owner: "user:user", mode: "0600"}}
  - env: {{WORD: second}}
  - run: echo $WORD >> /srv/order
  - workdir: /srv
  - copy: {{from: b, to: /srv/b, ignore: ["*.log"]}}
  - {{run: id -un > /tmp/who, user: user}}
""",
    )

    user.build()

    said = inside(
        user, "fn-steps", "cd /srv; cat order; stat -c '%U %a' renamed; ls b; cat /tmp/who"
    )
    assert said.out == "first\nsecond\nuser 600\ntwo.txt\nuser\n"


def test_a_secret_is_there_for_its_command_alone(
    user: User, base: str, nonce: str, images: Callable[[str], None]
) -> None:
    needs("docker", "docker.io")
    images("fn-secret")
    token = f"token-{os.urandom(8).hex()}"
    user.write(
        "novita.yaml",
        f"""\
version: 1
name: fn-secret
base: {base}
resources: {{cpu: 1, memory: 128}}
env: {{NONCE: {nonce}}}
secrets:
  token: {{env: THE_TOKEN}}
  file: {{file: secret.txt}}
run:
  - run: cat /run/secrets/token /run/secrets/file | wc -c > /srv-size; cat /run/secrets/token
    secrets: [token, file]
  - test ! -e /run/secrets/token
""",
    )
    user.write("secret.txt", "from a file")

    without = user.run("build")
    ran = user.having(THE_TOKEN=token).command("build", "-v")

    assert without.code == 1
    assert "secret `token` is to come from `THE_TOKEN`, which is not set" in without.err
    assert ran.code == 0, ran.err
    assert inside(user, "fn-secret", "cat /srv-size").out == f"{len(token) + 11}\n"
    assert token not in ran.err + ran.out
    for path in (*user.root.rglob("*"), *user.home.rglob("*")):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    # Another value is the same template.
    assert user.having(THE_TOKEN="another").build().done == set()
