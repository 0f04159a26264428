import re
import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import userdockerfile
from sandboxfile.errors import SandboxfileError, Unsupported
from sandboxfile.places import Position
from sandboxfile.userdockerfile import UserDockerfile

DIGEST = "sha256:" + "ab" * 32


def read(
    text: str, *, args: Mapping[str, str] | None = None, stage: str | None = None
) -> UserDockerfile:
    return userdockerfile.parse(text, file="Dockerfile", args=args, stage=stage)


# --- images ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM python:3.12\n", ["python:3.12"]),
        ("from python:3.12 as x", ["python:3.12"]),
        ("\ufeffFROM python", ["python"]),
        ("# comment\n\n   FROM\tpython  \n", ["python"]),
        ("FROM --platform=linux/amd64 python AS x\n", ["python"]),
        ("FROM \\\n  python\n", ["python"]),
        ("FROM \\\n# between\n\n  python AS \\  \n x\n", ["python"]),
        ("FROM python\r\nRUN true\r\n", ["python"]),
        ("FROM scratch\nCOPY a /\n", []),
        ("FROM a AS x\nFROM x\nFROM b\nCOPY --from=1 / /\n", ["a", "b"]),
        ("FROM a AS X\nFROM b\nCOPY --from=x / /\n", ["a", "b"]),
        ("FROM a AS unused\nFROM b\n", ["b"]),
        ("FROM b\nCOPY --chown=u --from=ghcr.io/x/y:1 /a /b\n", ["b", "ghcr.io/x/y:1"]),
        ("FROM b\nCOPY --from=scratch / /\n", ["b"]),
        ("FROM b\nCOPY a --from=c\n", ["b"]),
        ("FROM b\nCOPY --from= a /\n", ["b"]),
        ("FROM b\nADD --from=c a /\n", ["b"]),
        ("FROM b\nRUN --mount=type=bind,from=c,target=/x true\n", ["b", "c"]),
        ('FROM b\nRUN --mount=from="c",target=/x true\n', ["b", "c"]),
        ("FROM b AS s\nFROM s\nRUN --mount=from=s,target=/x true\n", ["b"]),
        ("FROM b\nRUN --network=none --mount=type=cache,target=/x,rw true\n", ["b"]),
        ("FROM b\nONBUILD COPY --from=c / /\n", ["b"]),
        ("FROM b\nRUN echo --from=c COPY --from=d\n", ["b"]),
        ("FROM b\nRUN echo \\\nFROM c\n", ["b"]),
        ("FROM b\nRUN <<EOF\nCOPY --from=c / /\nEOF\nCOPY --from=d / /\n", ["b", "d"]),
        (
            "FROM b\nRUN x <<-'A B' <<\"C\"\nFROM c\n\tA B\nFROM d\nC\nCOPY --from=e / /\n",
            ["b", "e"],
        ),
        ("FROM b\nCOPY <<x /y\nFROM c\n x\nx\n", ["b"]),
        ("FROM b\nONBUILD RUN <<x\nFROM c\nx\n", ["b"]),
        ('# escape=`\nFROM b\nRUN ["a \\" <<E b"]\nFROM c\n', ["c"]),
        ('FROM b\nRUN ["sh", "-c", "cat <<EOF"]\nFROM c\n', ["c"]),
        ("FROM b\nRUN cat <<<x '<<y' \\<<z\nFROM c\n", ["c"]),
        ("FROM b\nENV A=<<x\nRUN\nRUN --network=none\nFROM c\n", ["c"]),
        ("# escape=`\nFROM b\nRUN dir c:\\\nFROM `\nd\n", ["d"]),
        ("# x\n# escape=`\nFROM b\nRUN dir \\\nFROM `\n", ["b"]),
        ("# syntax=a\n# escape=`\nFROM `\nb", ["b"]),
        ("FROM b\nRUN a \\\\\nFROM c\n", ["c"]),
        ("FROM b\nRUN a \\", ["b"]),
        ("FROM a\nFROM b\nRUN --mount=from=0,target=/x true\n", ["b", "0"]),
        ("FROM b\nCOPY --from=$X / /\nRUN --mount=from=$X,target=/x true\n", ["b"]),
        (f"FROM b:1@{DIGEST}", [f"b:1@{DIGEST}"]),
        ("FROM a AS x\nFROM b AS x\nFROM x\n", ["b"]),
        ("FROM a AS x\nFROM b AS y\nCOPY --from=y / /\n", ["b", "y"]),
    ],
)
def test_the_images_of_the_last_stage_are_found(text: str, images: list[str]) -> None:
    assert list(read(text).images) == images


@pytest.mark.parametrize(
    ("declared", "used", "image"),
    [
        ("ARG V=1", "x:$V", "x:1"),
        ("ARG V=1", "x:${V}-slim", "x:1-slim"),
        ("ARG V", "x:${V:-2}", "x:2"),
        ("ARG V=", "x:${V:-2}", "x:2"),
        ("ARG V=", "x:1${V-2}", "x:1"),
        ("ARG V", "x:1${V+3}", "x:1"),
        ("ARG V=", "x:1${V+3}", "x:13"),
        ("ARG V=", "x:1${V:+3}", "x:1"),
        ("ARG V=1", "x:${V:+alt}", "x:alt"),
        ("ARG V=1", "x:${W:-${V}}", "x:1"),
        ("ARG V=1 W=$V.2", "x:$W", "x:1.2"),
        ("ARG V=\"1\"\narg W='2'", "x:$V.$W", "x:1.2"),
        ("ARG V='$W' W=1", "x:1${V:+y}", "x:1y"),
        ('ARG A="\\$\\"\\x"', "x:1${A:+y}", "x:1y"),
        ("ARG V=\\1", "x:$V", "x:1"),
        ("ARG V=1", "x:${V?must}", "x:1"),
        ("ARG OVERRIDE=1", "x:$OVERRIDE", "x:given"),
        ("ARG ONLY_GIVEN", "x:$ONLY_GIVEN", "x:too"),
        ("ARG V=1", "x:1$ONLY_GIVEN", "x:1"),
        ("ARG V=1", '"x:$V"', "x:1"),
        ("ARG V=1", "x:$TARGETARCH-$BUILDOS", "x:amd64-linux"),
    ],
)
def test_variables_in_from_are_replaced_as_docker_does(
    declared: str, used: str, image: str
) -> None:
    args = {"OVERRIDE": "given", "ONLY_GIVEN": "too"}
    assert read(f"{declared}\nFROM {used}\n", args=args).images == (image,)


def test_an_arg_of_a_stage_does_not_reach_from() -> None:
    text = "ARG V=1\nFROM a:$V\nARG V=2\nFROM b:$V\n"
    assert read(text).images == ("b:1",)


# --- stages ----------------------------------------------------------------------------------

MULTI = """\
FROM a AS build
FROM b
FROM b AS copy
COPY --from=build / /
FROM c AS Last
"""


@pytest.mark.parametrize(
    ("stage", "target", "images"),
    [
        (None, None, ["c"]),
        ("last", None, ["c"]),
        ("3", None, ["c"]),
        ("BUILD", "build", ["a"]),
        ("0", "build", ["a"]),
        ("2", "copy", ["a", "b"]),
    ],
)
def test_only_what_the_target_stage_reaches_counts(
    stage: str | None, target: str | None, images: list[str]
) -> None:
    found = read(MULTI, stage=stage)
    assert (found.target, list(found.images)) == (target, images)
    assert found.stages == ("build", "", "copy", "Last")


@pytest.mark.parametrize(
    ("text", "stage"), [(MULTI, "1"), ("FROM a AS x\nFROM b AS x\nFROM c\n", "0")]
)
def test_a_stage_without_a_name_is_no_target(text: str, stage: str) -> None:
    with pytest.raises(SandboxfileError, match=f"stage {stage} has no name of its own") as raised:
        read(text, stage=stage)
    assert raised.value.at == Position("Dockerfile", int(stage) + 1, 1)


@pytest.mark.parametrize(
    ("stage", "hint"),
    [
        ("buidl", "did you mean `build`?"),
        ("4", "its stages are `build`, `copy`, `Last`"),
        ("", "its stages are `build`, `copy`, `Last`"),
    ],
)
def test_an_unknown_target_stage_is_refused(stage: str, hint: str) -> None:
    with pytest.raises(SandboxfileError, match=re.escape(f"no stage `{stage}`")) as raised:
        read(MULTI, stage=stage)
    assert raised.value.hint == hint
    with pytest.raises(SandboxfileError) as raised:
        read("FROM a\n", stage="x")
    assert raised.value.hint == "its stages are without names"


# --- pinning ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS b # x\n".replace(" # x", ""), "FROM A@1 AS b\n"),
        ("from  a\n", "from  A@1\n"),
        ("FROM --platform=a a\n", "FROM --platform=a A@1\n"),
        ("FROM b AS a\nFROM a\n", "FROM B@2 AS a\nFROM a\n"),
        ("ARG X=a\nFROM $X\nRUN echo $X a\n", "ARG X=a\nFROM A@1\nRUN echo $X a\n"),
        ("ARG X=a\nFROM \\\n ${X:-b} as y\n", "ARG X=a\nFROM \\\n A@1 as y\n"),
        ("FROM b\nCOPY --from=a a a\n", "FROM B@2\nCOPY --from=A@1 a a\n"),
        ('FROM b\nCOPY --from="a" a a\n', "FROM B@2\nCOPY --from=A@1 a a\n"),
        (
            "FROM b\r\nRUN --mount=target=/a,from=a \\\r\n --mount=from=b,target=/b a\r\n",
            "FROM B@2\r\nRUN --mount=target=/a,from=A@1 \\\r\n --mount=from=B@2,target=/b a\r\n",
        ),
        ("FROM c\nCOPY --from=a . .\n", "FROM c\nCOPY --from=A@1 . .\n"),
        ("FROM a AS unused\nFROM b\n", "FROM a AS unused\nFROM B@2\n"),
        ("FROM scratch\n", "FROM scratch\n"),
    ],
)
def test_pinning_replaces_the_image_and_nothing_else(text: str, expected: str) -> None:
    assert read(text).pin({"a": "A@1", "b": "B@2"}) == expected


WORDS = st.text(string.ascii_letters + " \\\"'#<$-=\t", max_size=20)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4))
def test_whatever_stands_around_stays_as_it_is(before: list[str], after: list[str]) -> None:
    comments = "".join(f"# {line}\n" for line in before)
    rest = "".join(f"RUN {line.strip()}\n" for line in after)
    text = f"{comments}FROM python:3 AS x\n{rest}"
    try:
        found = read(text)
    except SandboxfileError:  # a here-document without end, among the random words
        return
    assert found.pin({}) == text
    assert found.pin({"python:3": "P"}) == f"{comments}FROM P AS x\n{rest}"


# --- needs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "needs", "secrets"),
    [
        ("FROM a\nRUN true\n", [], []),
        ("FROM a\nRUN <<E\nE\n", ["heredoc"], []),
        ("FROM a AS b\nCOPY <<E /x\nE\nFROM c\n", ["heredoc"], []),
        ("FROM a\nRUN --mount=type=cache,target=/x true\n", ["cache_mounts"], []),
        ("FROM a\nRUN --mount=type=tmpfs,target=/x true\n", ["cache_mounts"], []),
        ("FROM a\nRUN --mount=type=secret,id=t true\n", ["cache_mounts", "secrets"], ["t"]),
        (
            "FROM a\nRUN --mount=type=secret,dst=/run/npmrc --mount=type=secret,id=t true\n",
            ["cache_mounts", "secrets"],
            ["npmrc", "t"],
        ),
        (
            'FROM a\nRUN --mount=type=secret,dst=/npmrc x\nRUN --mount=type=secret,"id=t",rw x\n',
            ["cache_mounts", "secrets"],
            ["npmrc", "t"],
        ),
        (
            "FROM a AS b\nRUN --mount=type=secret,id=t true\nFROM c\n",
            ["cache_mounts"],
            [],
        ),
        ("FROM a AS b\nRUN --mount=type=ssh true\nFROM c\n", ["cache_mounts"], []),
    ],
)
def test_needs_and_secrets_are_found(text: str, needs: list[str], secrets: list[str]) -> None:
    found = read(text)
    assert sorted(found.needs) == needs
    assert list(found.secrets) == secrets


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("FROM a\n", None),
        ("# syntax=docker/dockerfile:1\nFROM a\n", "docker/dockerfile:1"),
        ("#SYNTAX = x/y \r\nFROM a\n", "x/y"),
        ("# escape=`\n# syntax=x\nFROM a\n", "x"),
        ("# a comment\n# syntax=x\nFROM a\n", None),
        ("# check=skip=all\n# syntax=x\nFROM a\n", "x"),
        ("# other=1\n# syntax=x\nFROM a\n", None),
        ("\n# syntax=x\nFROM a\n", None),
    ],
)
def test_the_frontend_that_a_file_asks_for_is_found(text: str, syntax: str | None) -> None:
    assert read(text).syntax == syntax


def test_the_digest_is_of_the_text() -> None:
    assert read("FROM a\n").sha256 != read("FROM a \n").sha256
    assert len(read("FROM a\n").sha256) == 64


# --- places of steps -------------------------------------------------------------------------

STEPS = """\
ARG V=1
FROM a:$V AS build
ENV A=1
WORKDIR /x
RUN make \\
    all
FROM scratch
COPY --from=build /x /
FROM build AS last
LABEL a=b
  ADD c /
RUN <<E
RUN x
E
RUN y
"""


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("[build 1/3] FROM docker.io/library/a:1", 2),
        ("[build 2/3] WORKDIR /x", 4),
        ("[build 3/3] RUN make     all", 5),
        ("[linux/amd64 build 3/3] RUN make     all", 5),
        ("[stage-1 1/1] COPY --from=build /x /", 8),
        ("[last 1/3] ADD c /", 11),
        ("[last 2/3] RUN <<E (RUN x)", 12),
        ("[LAST 3/3] RUN y", 15),
        ("[last  4/12] RUN onbuild", None),
        ("[last 10/12] ADD c /", 11),
        ("[other 1/1] RUN y", None),
        ("[internal] load build context", None),
        ("FROM docker.io/library/a:1", None),
        ("Step 1/13 : ARG V=1", 1),
        ("Step 4/13 : WORKDIR /x", 4),
        ("STEP 5/13: RUN make", 5),
        ("Step 13/13 : LABEL x=y", None),
    ],
)
def test_a_step_of_a_builder_is_found_in_the_file(step: str, line: int | None) -> None:
    at = read(STEPS).place(step)
    assert (at.line if at else None) == line
    if at:
        assert (at.file, at.column) == ("Dockerfile", 3 if line == 11 else 1)


def test_a_single_stage_has_no_name_in_its_steps() -> None:
    found = read("FROM a AS x\nENV B=1\nRUN true\n")
    assert found.place("[2/2] RUN true") == Position("Dockerfile", 3, 1)
    assert found.place("[x 1/2] FROM a") == Position("Dockerfile", 1, 1)


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the Dockerfile has no `FROM`"),
        ("# x\nRUN true\n", 1, 1, "the Dockerfile has no `FROM`"),
        ("# syntax=x", 1, 1, "the Dockerfile has no `FROM`"),
        ("FROM\n", 1, 1, "`FROM` takes an image or a stage, and `AS name` after it"),
        ("FROM a b\n", 1, 1, "`FROM` takes an image or a stage, and `AS name` after it"),
        ("FROM a TO b\n", 1, 1, "`FROM` takes an image or a stage, and `AS name` after it"),
        ("ARG X\n\n FROM ${X}\n", 3, 7, "`${X}` is empty here, and `FROM` needs an image"),
        ("FROM \\\n  $X AS b\n", 2, 3, "`$X` is empty here, and `FROM` needs an image"),
        ("ARG X\nFROM a\nFROM ${X?give}", 3, 6, "in `${X?give}`, `X` is not set: give"),
        ("FROM ${X#a}", 1, 6, "in `${X#a}`, the modifier of `X` is not one of `-`, `+` and `?`"),
        ("FROM ${X", 1, 6, "in `${X`, a quote or brace is not closed"),
        ("FROM ${}", 1, 6, "in `${}`, `${` is not followed by a name"),
        ("ARG X='a\nFROM b", 1, 5, "in `X='a`, a quote or brace is not closed"),
        ("FROM a$\n", 1, 6, "this is not an image reference: "),
        ("FROM Python\n", 1, 6, "this is not an image reference: repositories are in lower case"),
        ("FROM a\nCOPY --from=b: / /\n", 2, 13, "this is not an image reference: the tag after"),
        ("FROM a AS builder\nFROM b\nCOPY --from=biulder / /\n", 3, 13, "no stage `biulder` above"),
        ("FROM a\nCOPY --from=0 / /\n", 2, 13, "there is no stage 0 above; the first is 0"),
        ("FROM a\nFROM b\nCOPY --from=\u00b2 / /\n", 3, 13, "this is not an image reference"),
        ("FROM a\nCOPY --from=" + "1" * 5000 + " / /\n", 2, 13, "this is not an image reference"),
        ("FROM a\nRUN cat <<EOF\nx\n EOF\n", 2, 1, "the here-document that `EOF` should end"),
    ],
)
def test_errors_say_where_and_what(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(SandboxfileError, match=re.escape(message)) as raised:
        read(text)
    assert raised.value.at == Position("Dockerfile", line, column)


def test_ssh_mounts_are_refused_where_they_are_built() -> None:
    text = "FROM a AS b\nRUN --mount=type=ssh true\nFROM b\n"
    with pytest.raises(Unsupported, match="type=ssh") as raised:
        read(text)
    assert raised.value.at == Position("Dockerfile", 2, 13)


def test_an_image_named_like_the_start_of_a_stage_is_meant() -> None:
    assert read("FROM a AS python3\nFROM b\nCOPY --from=python / /\n").images == ("b", "python")
