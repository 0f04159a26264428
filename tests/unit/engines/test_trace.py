"""What engines say while they build, as events and as one error."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.engines.trace import Narrator, Output, Vertex, decode, exit_status
from sandboxfile.events import Log, StepDone, StepStarted
from tests.fakes.building import Events

# --- protobuf, written by hand ---------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def delimited(number: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(data)) + data


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def stamp(seconds: int, nanos: int = 0) -> bytes:
    return number(1, seconds) + (number(2, nanos) if nanos else b"")


def message(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts)).decode()


VERTEX = delimited(
    1,
    delimited(1, "sha256:v")
    + delimited(2, "sha256:input")
    + delimited(3, "[2/2] RUN x")
    + number(4, 1)
    + delimited(5, stamp(100, 500_000_000))
    + delimited(6, stamp(103))
    + delimited(7, "it broke"),
)
OUTPUT = delimited(
    3, delimited(1, "sha256:v") + delimited(2, stamp(1)) + number(3, 2) + delimited(4, b"a\xffb")
)


def test_a_trace_holds_vertexes_and_output() -> None:
    status = delimited(2, delimited(1, "extracting") + number(4, 300))
    fixed = varint(9 << 3 | 1) + bytes(8) + varint(10 << 3 | 5) + bytes(4)
    assert list(decode(message(VERTEX, status, OUTPUT, fixed))) == [
        Vertex(
            digest="sha256:v",
            name="[2/2] RUN x",
            cached=True,
            started=100.5,
            completed=103.0,
            error="it broke",
        ),
        Output(vertex="sha256:v", stream=2, data=b"a\xffb"),
    ]


def test_numbers_of_several_bytes_are_understood() -> None:
    long = "x" * 300
    vertex = delimited(1, delimited(1, long) + delimited(3, "RUN x") + delimited(200, b"later"))
    unknown = number(200, 1) + delimited(2, "y" * 128)
    assert list(decode(message(unknown, vertex))) == [Vertex(digest=long, name="RUN x")]


def test_what_is_left_out_has_its_default() -> None:
    empty = message(delimited(1, b""), delimited(3, b""), number(1, 5), number(3, 5))
    assert list(decode(empty)) == [Vertex(digest=""), Output(vertex="", stream=1, data=b"")]


@pytest.mark.parametrize(
    "broken",
    [
        message(VERTEX[:-1]),
        message(b"\xff"),
        message(varint(1 << 3 | 2)),
        message(varint(1 << 3 | 3)),
        "A",
    ],
)
def test_a_broken_trace_is_a_value_error_and_costs_no_build(broken: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(decode(broken))
    events = Events()
    Narrator("j", events.emit).trace(broken)
    assert not events


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    Narrator("j", Events().emit).trace(base64.b64encode(data).decode())


# --- BuildKit's account ----------------------------------------------------------------------


def narrated(*items: Vertex | Output) -> Events:
    events = Events()
    narrator = Narrator("j", events.emit)
    for item in items:
        if isinstance(item, Vertex):
            narrator.vertex(item)
        else:
            narrator.output(item)
    narrator.close()
    return events


def test_a_step_starts_once_and_ends_once() -> None:
    named = Vertex(digest="v", name="[1/1] RUN x")
    begun = Vertex(digest="v", name="[1/1] RUN x", started=10.0)
    ended = Vertex(digest="v", name="[1/1] RUN x", started=10.0, completed=12.5)
    assert narrated(named, begun, begun, ended, ended) == [
        StepStarted(job="j", step="[1/1] RUN x"),
        StepDone(job="j", step="[1/1] RUN x", seconds=2.5),
    ]


def test_a_step_is_called_as_it_was_last() -> None:
    found = narrated(
        Vertex(digest="v", name="first"),
        Vertex(digest="v", name="second", started=1.0),
        Vertex(digest="v", started=1.0, completed=2.0),
    )
    assert found == [
        StepStarted(job="j", step="second"),
        StepDone(job="j", step="second", seconds=1.0),
    ]


def test_a_cached_step_says_so() -> None:
    events = narrated(Vertex(digest="v", name="s", cached=True, started=1.0, completed=1.0))
    assert events.done == {"s": StepDone(job="j", step="s", cached=True)}


def test_an_end_without_a_beginning_takes_no_time() -> None:
    assert narrated(Vertex(digest="v", name="s", completed=5.0)) == [StepDone(job="j", step="s")]


def test_clocks_that_run_backwards_take_no_time() -> None:
    (_, done) = narrated(Vertex(digest="v", name="s", started=9.0, completed=5.0))
    assert done == StepDone(job="j", step="s", seconds=0.0)


def test_a_failed_step_is_not_done() -> None:
    events = narrated(Vertex(digest="v", name="s", started=1.0, completed=2.0, error="no"))
    assert events == [StepStarted(job="j", step="s")]


@pytest.mark.parametrize("name", ["[internal] load metadata for x", "copy /context /"])
def test_errands_of_buildkit_are_no_steps(name: str) -> None:
    assert not narrated(Vertex(digest="v", name=name, started=1.0, completed=2.0))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('[2/5] RUN ["/bin/sh", "-c", "a \\"b\\" [c]"]', '[2/5] RUN a "b" [c]'),
        ('[a 2/5] RUN --mount=type=cache ["/bin/sh","-c","a"]', "[a 2/5] RUN --mount=type=cache a"),
        ('Step 3/9 : RUN ["/bin/sh", "-c", "\\n a\\tb \\n\\nc"]', "Step 3/9 : RUN a b  …"),
        ('[1/1] RUN ["/bin/sh", "-c", "a\\u001b[2Jb"]', "[1/1] RUN a [2Jb"),
        # Seen with Engine 20.10: quotes have lost their escapes.
        ('[2/2] RUN ["/bin/sh", "-c", "a "b"; c\\nd"]', '[2/2] RUN a "b"; c …'),
        *(
            (name, name)
            for name in (
                '[1/1] RUN ["/bin/sh", "-c", " "]',
                '[1/1] RUN ["/bin/sh", "-c", "a", "b"]',
                '[1/1] RUN ["/bin/bash", "-c", "a"]',
                "[1/1] RUN [ -f x ]",
                "[1/1] RUN " + "[" * 100_000 + "]",
                '[1/1] COPY ["/bin/sh", "-c", "a"]',
                "[1/1] RUN echo hi",
            )
        ),
    ],
)
def test_a_command_is_told_as_people_write_it(name: str, shown: str) -> None:
    assert narrated(Vertex(digest="v", name=name, started=1.0)) == [
        StepStarted(job="j", step=shown)
    ]


def test_output_is_cut_into_lines_by_step_and_stream() -> None:
    def said(vertex: str, stream: int, data: bytes) -> Output:
        return Output(vertex=vertex, stream=stream, data=data)

    events = narrated(
        Vertex(digest="a", name="A", started=1.0),
        Vertex(digest="b", name="B", started=1.0),
        said("a", 1, b"one "),
        said("b", 1, b"other\nun"),
        said("a", 2, b"err\n"),
        said("a", 1, b"line\nlast"),
        Vertex(digest="a", name="A", started=1.0, completed=2.0),
    )
    assert [each for each in events if not isinstance(each, StepStarted)] == [
        Log(job="j", text="other", step="B"),
        Log(job="j", text="err", stream="stderr", step="A"),
        Log(job="j", text="one line", step="A"),
        Log(job="j", text="last", step="A"),  # before the end of its step
        StepDone(job="j", step="A", seconds=1.0),
        Log(job="j", text="un", step="B"),
    ]


# --- the classic builder's and Podman's ------------------------------------------------------


def test_plain_text_becomes_steps_and_lines() -> None:
    events = Events()
    narrator = Narrator("j", events.emit)
    narrator.text("Step 1/2 : FROM x\n ---> 0123456789ab\nStep 2/")
    narrator.text("2 : RUN y\n ---> Using cache\nhello\nSuccessfully built 0123456789ab\nend")
    narrator.close()
    first, second = "Step 1/2 : FROM x", "Step 2/2 : RUN y"
    assert events.started == [first, second]
    assert (events.done[first].cached, events.done[second].cached) == (False, True)
    assert events.lines == ["hello", "end"]
    assert [each.step for each in events if isinstance(each, Log)] == [second, second]


def test_podmans_text_is_understood() -> None:
    events = Events()
    narrator = Narrator("j", events.emit)
    narrator.text("STEP 1/1: RUN x\n--> Using cache abc\nhello\nCOMMIT docker.io/x/y:1\n")
    narrator.text("--> abc\n[Warning] one or more build args were not consumed: [A]\n")
    narrator.text("a" * 64 + "\n")
    narrator.close()
    assert events.lines == ["hello"]
    assert events.done["STEP 1/1: RUN x"].cached


def test_a_step_that_fails_in_plain_text_is_not_done() -> None:
    events = Events()
    narrator = Narrator("j", events.emit)
    narrator.text("Step 1/2 : FROM x\nStep 2/2 : RUN y\nlast words")
    error = narrator.failure("The command '/bin/sh -c y' returned a non-zero code: 3")
    assert error.message == "the build failed at `Step 2/2 : RUN y`: exit status 3"
    assert (error.step, error.status, error.tail) == ("Step 2/2 : RUN y", 3, ("last words",))
    assert list(events.done) == ["Step 1/2 : FROM x"]


# --- failures --------------------------------------------------------------------------------

SHELL = 'process "/bin/sh -c y" did not complete successfully: exit code: 7'


def test_the_step_to_blame_is_the_one_whose_error_it_is() -> None:
    narrator = Narrator("j", Events().emit)
    cancelled = "rpc error: context canceled"
    narrator.vertex(Vertex(digest="a", name="A", started=1.0, completed=2.0, error=cancelled))
    narrator.vertex(Vertex(digest="b", name="B", started=1.0, completed=2.0, error="wrong one"))
    narrator.vertex(Vertex(digest="c", name="C", started=1.0, completed=2.0, error=SHELL))
    narrator.output(Output(vertex="a", stream=1, data=b"not this\n"))
    narrator.output(Output(vertex="c", stream=1, data=b"one\ntwo"))
    error = narrator.failure(f"failed to solve: {SHELL}")
    assert (error.step, error.status, error.tail) == ("C", 7, ("one", "two"))


@pytest.mark.parametrize(
    ("errors", "blamed"),
    [
        (["context canceled", "real"], "1"),
        (["context canceled"], "0"),
        ([], ""),
    ],
)
def test_without_a_match_an_honest_error_is_blamed(errors: list[str], blamed: str) -> None:
    narrator = Narrator("j", Events().emit)
    for index, error in enumerate(errors):
        narrator.vertex(Vertex(digest=f"{index}", name=f"{index}", started=1.0, error=error))
    assert narrator.failure("something else").step == blamed


def test_only_the_last_lines_are_kept() -> None:
    narrator = Narrator("j", Events().emit)
    narrator.output(Output(vertex="v", stream=1, data=b"".join(b"%d\n" % n for n in range(100))))
    narrator.vertex(Vertex(digest="v", name="s", error="boom"))
    assert narrator.failure("boom").tail == tuple(str(n) for n in range(80, 100))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("failed to solve: rpc error: code = Unknown desc = x y", "the build failed: x y"),
        ("failed to solve with frontend dockerfile.v0: failed to create LLB definition: x",
         "the build failed: x"),
        ("two\n lines", "the build failed: two lines"),
    ],
)  # fmt: skip
def test_the_wrapping_of_messages_is_taken_off(said: str, message: str) -> None:
    assert Narrator("j", Events().emit).failure(said, hint="h").message == message


def test_an_errand_that_fails_is_no_step() -> None:
    narrator = Narrator("j", Events().emit)
    narrator.vertex(Vertex(digest="v", name="[internal] load metadata for x", error="no host"))
    error = narrator.failure("no host")
    assert (error.step, error.message) == ("", "the build failed: no host")


def test_a_code_that_the_engine_gives_goes_before_the_text() -> None:
    assert Narrator("j", Events().emit).failure("exit code: 3", 4).status == 4


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("exit code: 7", 7),
        ("executor failed running [sh -c exit code: 1]: exit code: 127", 127),
        ("while running runtime: exit status 12", 12),
        ("returned a non-zero code: 3", 3),
        ("no such thing", None),
    ],
)
def test_the_exit_status_is_read_from_the_end(text: str, status: int | None) -> None:
    assert exit_status(text) == status


def test_steps_of_a_build_in_a_pack_are_called_as_if_it_had_gone_alone() -> None:
    told = Events()
    narrator = Narrator("build:api", told.emit, within="api/")
    names = {
        "[2/4] COPY [api/copy-1/, /app/]": "[2/4] COPY [copy-1/, /app/]",
        "[3/4] COPY --chown=me [api/copy-2/, /api/]": "[3/4] COPY --chown=me [copy-2/, /api/]",
        "[4/4] RUN echo ] COPY [api/x": "[4/4] RUN echo ] COPY [api/x",
    }
    for number_, name in enumerate(names):
        narrator.vertex(Vertex(digest=f"sha256:{number_}", name=name, started=1.0))
    assert [each.step for each in told if isinstance(each, StepStarted)] == [*names.values()]
