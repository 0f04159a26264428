"""A user's Dockerfile as instructions that a service carries out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import environment, translation, userdockerfile
from sandboxfile.errors import ConfigError
from sandboxfile.model import Copy, DockerfileBase, Env, ImageConfig, Run, Workdir
from sandboxfile.places import Position
from sandboxfile.translation import Translation

AT = Position("novita.yaml", 3, 7)
IMAGE = ImageConfig(env={"LANG": "C", "V": "image"}, workdir="/srv", cmd=("python3",))

FIXED = "(export UID=7) 2>/dev/null && export UID=7"  # which bash does not let anybody set


def translated(
    text: str,
    image: ImageConfig | None = IMAGE,
    *,
    args: Mapping[str, str] | None = None,
    stage: str | None = None,
) -> Translation:
    text = text if "FROM" in text else f"FROM x\n{text}"
    parsed = userdockerfile.parse(text, file="Dockerfile", args=args, stage=stage)
    base = DockerfileBase(
        dockerfile=Path("/w/Dockerfile"), context=Path("/w"), args=args or {}, stage=stage, at=AT
    )
    return translation.translate(parsed, base, image)


def said(text: str, image: ImageConfig | None = IMAGE, **more: Any) -> list[object]:
    """Return the instructions without where they are written."""
    return [_plain(each) for each in translated(text, image, **more).instructions]


def _plain(each: object) -> object:
    match each:
        case Env(values=values):
            return dict(values)
        case Run(command=command, user=user):
            return command if user is None else (command, user)
        case Workdir(path=path):
            return f"cd {path}"
        case Copy(sources=sources, to=to, owner=owner, mode=mode):
            return (*sources, to, owner, mode)
        case _:
            pytest.fail(f"{each}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN make && echo $V", ["make && echo $V"]),
        ("RUN a \\\n# no\n  && b", ["a   && b"]),
        ('RUN ["a", "b c"]', ["exec a 'b c'"]),
        ("RUN [ -f x ]", ["[ -f x ]"]),
        ("RUN [1]", ["[1]"]),
        ('SHELL ["/bin/bash", "-ec"]\nRUN a b\nRUN ["c"]', ["exec /bin/bash -ec 'a b'", "exec c"]),
        ("RUN --mount=type=cache,target=/c make", ["make"]),
        ("USER app\nRUN a", [("a", "app")]),
        ("USER root:root\nRUN a", ["a"]),
        ("USER 0\nRUN a", ["a"]),
        ("WORKDIR a/../b\nWORKDIR c", ["cd /srv/b", "cd /srv/b/c"]),
        ("WORKDIR //x/", ["cd /x"]),
        ("ENV A=1 B='x $A' C=$V", [{"A": "1", "B": "x $A", "C": "image"}]),
        ("ENV A=1\nENV A=2 B=$A", [{"A": "1"}, {"A": "2", "B": "1"}]),
        ("ENV A  b  c", [{"A": "b  c"}]),
        ("ENV P=$PATH", [{"P": environment.PATH}]),
        ("ARG A=1\nRUN x", ["export A=1; exec /bin/sh -c x"]),
        ('ARG A=1\nRUN ["x"]', ["export A=1; exec x"]),
        ('ENV a.b="c d"\nARG A=1\nRUN x', ["export A=1; exec /usr/bin/env 'a.b=c d' /bin/sh -c x"]),
        ("ARG A\nARG V=1\nRUN x", ["x"]),
        ("ARG A=1\nENV A=$A\nRUN x", [{"A": "1"}, "x"]),
        (
            "ENV HOME=/h UID=7\nRUN x",
            [f"export HOME=/h; {FIXED}; exec /bin/sh -c x"],
        ),
        ("ARG G=1\nFROM x\nARG G\nRUN x", ["export G=1; exec /bin/sh -c x"]),
        ("ARG TARGETARCH\nRUN x", ["export TARGETARCH=amd64; exec /bin/sh -c x"]),
        ("COPY a b /x/", [("a", "b", "/x/", None, None)]),
        ("COPY /a/ ../b ./", [("a/", "b", "/srv/", None, None)]),
        ("COPY . .", [(".", "/srv/", None, None)]),
        ("COPY a b", [("a", "/srv/b", None, None)]),
        ('COPY ["a b", "/c"]', [("a b", "/c", None, None)]),
        ("ARG D=d\nCOPY --link --chown=7 --chmod=755 $D /x", [("d", "/x", "7:7", "755")]),
        ("ADD --chown=u:g *.txt /x/", [("*.txt", "/x/", "u:g", None)]),
        ("LABEL a=b\nEXPOSE 1\nVOLUME /x\nSTOPSIGNAL 9\nMAINTAINER x", []),
        ("FROM y AS unused\nRUN n\nFROM x\nRUN a", ["a"]),
        ("FROM x AS one\nWORKDIR /o\nFROM one\nRUN a", ["cd /o", "a"]),
        ("FROM --platform=$TARGETPLATFORM x\nRUN a", ["a"]),
        ("# syntax=docker/dockerfile:1\nFROM x\nRUN a", ["a"]),
    ],
)
def test_instructions_keep_their_meaning(text: str, expected: list[object]) -> None:
    assert said(text) == expected


def test_arguments_come_from_the_yaml() -> None:
    args = {"A": "2", "UNUSED": "3", "HTTP_PROXY": "p"}
    expected = ["export HTTP_PROXY=p; export A=2; exec /bin/sh -c x"]
    assert said("ARG A=1\nRUN x", args=args) == expected


def test_a_stage_is_chosen() -> None:
    assert said("FROM x AS a\nRUN 1\nFROM x AS b\nRUN 2", stage="a") == ["1"]


def test_a_group_is_checked_before_a_command() -> None:
    (named,) = said("USER app:web\nRUN a")
    assert isinstance(named, tuple)
    assert named[0].startswith('[ "$(id -gn)" = web ] || { echo ')
    assert named[0].endswith("exit 1; }; a")
    (numbered,) = said("USER app:7\nRUN a")
    assert isinstance(numbered, tuple)
    assert '"$(id -g)" = 7' in numbered[0]


def test_a_new_working_directory_is_the_users() -> None:
    make, enter = said("USER app\nWORKDIR /a/b")
    assert make == (
        "set -e; if [ ! -d /a ]; then mkdir -- /a; chown -- app: /a; fi; "
        "if [ ! -d /a/b ]; then mkdir -- /a/b; chown -- app: /a/b; fi"
    )
    assert enter == "cd /a/b"
    assert "chown -- app:web /a" in str(said("USER app:web\nWORKDIR /a")[0])


@pytest.mark.parametrize(
    ("text", "entrypoint", "cmd"),
    [
        ("RUN x", (), ("python3",)),
        ("CMD a b", (), ("/bin/sh", "-c", "a b")),
        ('CMD ["a"]', (), ("a",)),
        ('ENTRYPOINT ["e"]', ("e",), ()),
        ('CMD ["a"]\nENTRYPOINT ["e"]', ("e",), ("a",)),
        ('FROM x AS p\nCMD ["a"]\nFROM p\nENTRYPOINT ["e"]', ("e",), ()),
        ('SHELL ["b"]\nCMD a', (), ("b", "a")),
    ],
)
def test_the_image_would_start(
    text: str, entrypoint: tuple[str, ...], cmd: tuple[str, ...]
) -> None:
    config = translated(text).config
    assert (config.entrypoint, config.cmd) == (entrypoint, cmd)


def test_the_image_would_say() -> None:
    config = translated("ENV A=1\nUSER app:web\nWORKDIR /w\nHEALTHCHECK CMD x").config
    assert (config.user, config.workdir, config.has_healthcheck) == ("app:web", "/w", True)
    assert config.env == {"PATH": environment.PATH, **IMAGE.env, "A": "1"}
    assert not translated("HEALTHCHECK NONE").config.has_healthcheck
    assert translated("WORKDIR /").config.workdir == ""


def test_the_copies_that_unpack_are_told() -> None:
    assert translated("COPY a /x\nADD b /y\nCOPY c /z").unpacking == {2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN --mount=type=secret,id=s x", "2:1: the service cannot do `--mount=type=secret,id=s`"),
        ("RUN --mount=type=bind,target=/x x", "2:1: the service cannot do `--mount=type=bind"),
        ("RUN --network=none x", "2:1: the service cannot do `--network=none` of `RUN`"),
        ("RUN", "2:1: `RUN` needs a command"),
        ("RUN []", "2:1: `RUN` needs a command"),
        ("RUN <<E\nx\nE", "2:1: the service cannot take the here-document of this `RUN`"),
        ("COPY <<E /x\nx\nE", "2:1: the service cannot take the here-document of this `COPY`"),
        ("COPY --from=y /a /b", "2:1: the service cannot do `--from=y` of `COPY`"),
        ("COPY --parents a /b", "2:1: the service cannot do `--parents` of `COPY`"),
        ("COPY a", "2:1: `COPY` needs sources and a destination"),
        ("COPY a b /c", "2:1: `/c` must end in `/`"),
        ("COPY a* /c", "2:1: `/c` must end in `/`"),
        ("COPY **/a /c/", "2:1: builders differ in what `**/a` matches"),
        ("ADD https://x/y /z", "2:1: the service cannot `ADD` what is elsewhere: `https://x/y`"),
        ("ADD git@x:y.git /z", "2:1: the service cannot `ADD` what is elsewhere"),
        ("\nONBUILD RUN x", "3:1: the service cannot carry out `ONBUILD`"),
        ("NOSUCH x", "2:1: the service cannot carry out `NOSUCH`"),
        ("SHELL bash", "2:1: `SHELL` needs a list"),
        ('USER ""', "2:1: `USER` needs a name"),
        ('WORKDIR ""', "2:1: `WORKDIR` needs a path"),
        ("ENV", "2:1: `ENV` needs a name and a value"),
        ("ENV A=1 B", "2:1: `ENV` needs `NAME=value`"),
        ("ENV A=${B?no}", "2:1: in `${B?no}`, `B` is not set: no"),
        ("ARG A=1\nARG A=2", "3:1: `ARG A` is declared before with another value"),
        ("FROM scratch\nRUN x", "1:1: the service cannot begin with nothing"),
        ("FROM --platform=linux/arm64 x", "1:1: the service cannot do `--platform=linux/arm64`"),
        ("# syntax=x/y\nFROM x", "1:1: the service cannot read the language of `# syntax=x/y`"),
        ("# syntax=?\nFROM x", "1:1: the service cannot read the language of `# syntax=?`"),
    ],
)
def test_what_the_service_cannot_do_is_told_at_its_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translated(text)
    (problem,) = caught.value.problems
    assert f"{problem.at}: {problem.message}".startswith(f"Dockerfile:{expected}")


def test_what_an_image_adds_to_dockerfiles_is_refused() -> None:
    with pytest.raises(ConfigError, match="`ONBUILD RUN x` of the image"):
        translated("RUN y", ImageConfig(on_build=("RUN x",)))


def test_nothing_is_complained_of_that_an_image_may_decide() -> None:
    text = "ARG D=$X\nENV E=${X?}\nWORKDIR $E\nUSER $X\nCOPY --chown=$D a $E\nENV D=1\nCOPY b $D"
    translated(text, None)
    (problem,) = _problems("COPY $X /a")
    assert problem == "what `$X` names is decided by the image, or by nothing"


def test_a_source_that_cannot_be_expanded_is_told_once() -> None:
    (problem,) = _problems("COPY ${X?} /a", IMAGE)
    assert problem.startswith("in `${X?}`, ")


def _problems(text: str, image: ImageConfig | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        translated(text, image)
    return [each.message for each in caught.value.problems]
