"""Builds in a real engine: what they make, what they say, how they fail and how they stop."""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.engines.choose import choose
from sandboxfile.errors import BuildFailed, Cancelled, SandboxfileError, Unsupported
from sandboxfile.events import Event, Log
from sandboxfile.model import EngineChoice
from tests.fakes.building import Events, context, spec

pytestmark = pytest.mark.engine


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    """A tag of its own for each test."""
    name = f"sandboxfile-tests/build:{uuid.uuid4().hex}"
    yield name
    engine.untag(name)


@pytest.fixture(params=["docker", "classic"])
def any_engine(
    request: pytest.FixtureRequest, engine_environ: Mapping[str, str]
) -> Iterator[Engine]:
    """The engine by both of its builders."""
    chosen = choose(EngineChoice(kind=request.param), environ=engine_environ, network="host")
    yield chosen
    chosen.close()


def output(engine: Engine, image: str, script: str) -> str:
    with engine.box(image, labels={}) as box:
        done = box.execute(("/bin/sh", "-c", script))
    assert done.status == 0, done.output
    return done.output


# --- what is made ----------------------------------------------------------------------------


def test_a_build_makes_an_image_that_runs(any_engine: Engine, busybox: str, tag: str) -> None:
    dockerfile = f"""\
        FROM {busybox} AS first
        ARG WHO
        RUN ["/bin/sh", "-c", "echo \\"$WHO\\" > /made"]
        FROM first AS second
        ENV GREETING="hello \\"you\\" \\$HOME"
        COPY file /copied
        USER user
        WORKDIR /home/user
        FROM second
        RUN exit 1
        """
    events = Events()
    built = any_engine.build(
        spec(
            dockerfile,
            tag,
            context=context(dockerfile, {"file": b"content\n"}),
            args={"WHO": "it's me & $you"},
            labels={"one": '1 "quoted" $x\nline', "two": "2"},
            stage="second",
        ),
        emit=events.emit,
        cancel=Cancel(),
    )
    assert built.tag == tag
    assert built.image_id == any_engine.find(tag)
    assert built.seconds > 0
    config = any_engine.image_config(tag)
    labels = config["Labels"]
    assert isinstance(labels, dict)
    assert (labels["one"], labels["two"]) == ('1 "quoted" $x\nline', "2")
    assert config["WorkingDir"] == "/home/user"
    said = output(any_engine, tag, 'cat /made /copied; id -un; echo "$GREETING"')
    assert said == 'it\'s me & $you\ncontent\nuser\nhello "you" $HOME\n'


def test_steps_and_lines_are_told(engine: Engine, busybox: str, tag: str) -> None:
    step = f"echo out; echo err >&2; printf 'no newline'; : {tag}"
    dockerfile = f"FROM {busybox}\nRUN {step}\n"
    events = Events()
    engine.build(spec(dockerfile, tag), emit=events.emit, cancel=Cancel())
    name = f"[2/2] RUN {step}"
    assert name in events.started
    assert not events.done[name].cached
    assert events.done[name].seconds > 0
    logs = [
        (each.text, each.stream) for each in events if isinstance(each, Log) if each.step == name
    ]
    # The streams are separate, so only the order within each is sure.
    assert sorted(logs) == [("err", "stderr"), ("no newline", "stdout"), ("out", "stdout")]
    assert not [each for each in events.started if each.startswith("[internal]")]
    again = Events()
    engine.build(spec(dockerfile, tag), emit=again.emit, cancel=Cancel())
    assert again.done[name].cached
    assert again.lines == []
    anew = Events()
    engine.build(spec(dockerfile, tag, no_cache=True), emit=anew.emit, cancel=Cancel())
    assert not anew.done[name].cached


def test_the_classic_builder_tells_its_steps_too(
    any_engine: Engine, busybox: str, tag: str
) -> None:
    dockerfile = f"FROM {busybox}\nRUN echo out; : {tag}\n"
    events, again = Events(), Events()
    any_engine.build(spec(dockerfile, tag), emit=events.emit, cancel=Cancel())
    any_engine.build(spec(dockerfile, tag), emit=again.emit, cancel=Cancel())
    (name,) = [each for each in events.started if "RUN" in each]
    assert (events.done[name].cached, again.done[name].cached) == (False, True)
    assert events.lines == ["out"]
    assert again.lines == []


def test_builds_at_once_do_not_mix(engine: Engine, busybox: str, tag: str) -> None:
    def build(number: int) -> tuple[str, list[str]]:
        events = Events()
        dockerfile = f"FROM {busybox}\nRUN echo mine-{number}-{tag}\n"
        built = engine.build(spec(dockerfile, f"{tag}-{number}"), emit=events.emit, cancel=Cancel())
        return built.image_id, events.lines

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(build, range(8)))
    for number, (image_id, lines) in enumerate(results):
        assert image_id == engine.find(f"{tag}-{number}")
        assert lines == [f"mine-{number}-{tag}"]
        engine.untag(f"{tag}-{number}")


def test_a_large_context_passes_through(engine: Engine, busybox: str, tag: str) -> None:
    dockerfile = f"FROM {busybox}\nCOPY big /big\n"
    whole = next(context(dockerfile, {"big": os.urandom(5_000_000)})())
    chunks = [whole[at : at + 10_000] for at in range(0, len(whole), 10_000)]
    engine.build(
        spec(dockerfile, tag, context=lambda: iter(chunks)), emit=Events().emit, cancel=Cancel()
    )
    assert output(engine, tag, "wc -c < /big").strip() == "5000000"


def test_cache_mounts_keep_files_between_builds(engine: Engine, busybox: str, tag: str) -> None:
    mount = f"--mount=type=cache,target=/cache,id={tag.rpartition(':')[2]}"
    needs = frozenset({"cache_mounts"})
    events = Events()
    for number in range(2):
        dockerfile = f"FROM {busybox}\nRUN {mount} : {number}; ls /cache; touch /cache/kept\n"
        engine.build(spec(dockerfile, tag, needs=needs), emit=events.emit, cancel=Cancel())
    assert events.lines == ["kept"]
    assert output(engine, tag, "ls -A /cache 2>/dev/null; :") == ""


def test_here_documents_work_or_are_refused_before_anything_is_sent(
    any_engine: Engine, busybox: str, tag: str
) -> None:
    dockerfile = f"FROM {busybox}\nRUN <<EOF\necho ran > /ran\nEOF\n"
    wanted = spec(dockerfile, tag, needs=frozenset({"heredoc"}))
    if "heredoc" in any_engine.info().can:
        any_engine.build(wanted, emit=Events().emit, cancel=Cancel())
        assert output(any_engine, tag, "cat /ran") == "ran\n"
        return

    def unread() -> Iterator[bytes]:
        yield b""
        pytest.fail("the context was read")

    refused = spec(dockerfile, tag, needs=frozenset({"heredoc"}), context=unread)
    with pytest.raises(Unsupported, match="the Dockerfile uses here-documents, which docker"):
        any_engine.build(refused, emit=Events().emit, cancel=Cancel())


@pytest.mark.parametrize("need", ["cache_mounts", "heredoc", "secrets"])
def test_the_classic_builder_refuses_what_it_would_do_wrong(
    engine_environ: Mapping[str, str], tag: str, need: str
) -> None:
    classic = choose(EngineChoice(kind="classic"), environ=engine_environ, network="host")
    with pytest.raises(Unsupported, match=r"which docker .* \(classic\) cannot do"):
        classic.build(
            spec("FROM scratch\n", tag, needs=frozenset({need})),
            emit=Events().emit,
            cancel=Cancel(),
        )
    classic.close()


# --- secrets ---------------------------------------------------------------------------------


def test_a_secret_is_there_in_its_step_and_nowhere_else(
    engine: Engine, busybox: str, tag: str, tmp_path: Path
) -> None:
    value = f"hush-{uuid.uuid4().hex}"
    (tmp_path / "to,ken").write_text(value)
    script = f"test -n {tag} && wc -c < /run/secrets/token && cut -c1-5 /run/secrets/token"
    dockerfile = f"FROM {busybox}\nRUN --mount=type=secret,id=token {script}\nENV A=1\n"
    events = Events()
    built = engine.build(
        spec(
            dockerfile,
            tag,
            secrets={"token": tmp_path / "to,ken"},
            args={"UNUSED": "a b"},
            labels={"kept": "yes it is"},
        ),
        emit=events.emit,
        cancel=Cancel(),
    )
    assert events.lines == [str(len(value)), "hush-"]
    (step,) = [each for each in events.started if "--mount=type=secret" in each]
    assert not events.done[step].cached
    assert built.image_id == engine.find(tag)
    config = engine.image_config(tag)
    assert "A=1" in str(config["Env"])
    assert "yes it is" in str(config["Labels"])
    assert value not in json.dumps(config)
    said = output(
        engine, tag, "cat /run/secrets/token 2>/dev/null; ls -A /run/secrets 2>/dev/null; :"
    )
    assert said == ""


def test_a_step_with_a_secret_that_fails_says_how(
    engine: Engine, busybox: str, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hush")
    mounted = "RUN --mount=type=secret,id=token"
    dockerfile = f"FROM {busybox}\n{mounted} echo last words of {tag}; exit 9\n"
    with pytest.raises(BuildFailed) as caught:
        engine.build(
            spec(dockerfile, tag, secrets={"token": tmp_path / "token"}),
            emit=Events().emit,
            cancel=Cancel(),
        )
    assert caught.value.status == 9
    assert f"2/2] {mounted}" in caught.value.step
    assert caught.value.tail == (f"last words of {tag}",)
    assert engine.find(tag) is None


def test_a_build_with_secrets_can_be_cancelled(
    engine: Engine, busybox: str, tag: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hush")
    cancel, mark = Cancel(), f"100.{uuid.uuid4().int}"
    dockerfile = f"FROM {busybox}\nRUN --mount=type=secret,id=token echo on; sleep {mark}\n"

    def emit(event: Event) -> None:
        if isinstance(event, Log):
            cancel.set()

    with pytest.raises(Cancelled):
        engine.build(
            spec(dockerfile, tag, secrets={"token": tmp_path / "token"}), emit=emit, cancel=cancel
        )
    until_no_process(mark)


# --- failures --------------------------------------------------------------------------------


def failed(engine: Engine, dockerfile: str, tag: str, **fields: object) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        engine.build(spec(dockerfile, tag, **fields), emit=Events().emit, cancel=Cancel())
    assert engine.find(tag) is None
    return caught.value


def test_a_failed_step_has_name_status_and_the_end_of_its_log(
    any_engine: Engine, busybox: str, tag: str
) -> None:
    script = f"seq 1 30; : {tag}; exit 7"
    error = failed(any_engine, f"FROM {busybox}\nRUN echo before\nRUN {script}\n", tag)
    assert error.status == 7
    assert error.step.endswith(f"RUN {script}")
    assert error.tail == tuple(str(number) for number in range(11, 31))
    assert error.message == f"the build failed at `{error.step}`: exit status 7"


@pytest.mark.parametrize(
    ("instruction", "said"),
    [
        ("FOO bar", "unknown instruction: FOO"),
        ("COPY absent /x", "absent"),
        ("COPY --from=nothing/here:1 /x /x", "nothing/here"),
    ],
)
def test_a_wrong_instruction_is_quoted(
    engine: Engine, busybox: str, tag: str, instruction: str, said: str
) -> None:
    error = failed(engine, f"FROM {busybox}\n{instruction}\n", tag)
    assert error.status is None
    assert said in error.message


def test_an_unknown_stage_is_named(engine: Engine, busybox: str, tag: str) -> None:
    assert "nowhere" in failed(engine, f"FROM {busybox}\n", tag, stage="nowhere").message


def test_a_base_that_is_nowhere_is_named(engine: Engine, registry: str, tag: str) -> None:
    error = failed(engine, f"FROM {registry}/no/such:1\n", tag)
    assert f"{registry}/no/such:1" in error.message


def test_a_private_base_that_was_not_pulled_is_explained(
    engine: Engine, secured_registry: str, tag: str
) -> None:
    wanted = spec(f"FROM {secured_registry}/private:1\n", tag)
    # The second where the engine builds through a client: it asks, and is not let in.
    reasons = "BuildKit must ask for a login or a secret|401 Unauthorized"
    with pytest.raises((Unsupported, BuildFailed), match=reasons):
        engine.build(wanted, emit=Events().emit, cancel=Cancel())


# --- stopping --------------------------------------------------------------------------------


def processes(mark: str) -> list[int]:
    """Return the processes of this machine with `mark` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until_no_process(mark: str) -> None:
    end = time.monotonic() + 15
    while processes(mark):
        assert time.monotonic() < end, "the step still runs"
        time.sleep(0.05)


def test_cancelling_stops_the_step_that_runs(any_engine: Engine, busybox: str, tag: str) -> None:
    cancel, mark = Cancel(), f"100.{uuid.uuid4().int}"

    def emit(event: Event) -> None:
        # That this line is here before the step ends is what live means.
        if isinstance(event, Log) and event.text == "running":
            cancel.set()

    with pytest.raises(Cancelled):
        any_engine.build(
            spec(f"FROM {busybox}\nRUN echo running; sleep {mark}\n", tag), emit=emit, cancel=cancel
        )
    until_no_process(mark)
    assert any_engine.find(tag) is None


def test_cancelling_stops_the_upload(engine: Engine, tag: str) -> None:
    cancel = Cancel()

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)
            cancel.set()

    with pytest.raises(Cancelled):
        engine.build(spec("", tag, context=endless), emit=Events().emit, cancel=cancel)


@pytest.mark.parametrize("error", [SandboxfileError("changed"), OSError("gone")])
def test_an_error_of_the_context_is_raised_as_it_is(
    engine: Engine, tag: str, error: Exception
) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(65536)
        raise error

    with pytest.raises(type(error)) as caught:
        engine.build(spec("", tag, context=broken), emit=Events().emit, cancel=Cancel())
    assert caught.value is error
