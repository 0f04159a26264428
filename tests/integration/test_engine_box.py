"""Containers to run commands in: output, status, user, limits, commit, and their end."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Box, Engine
from sandboxfile.errors import BuildFailed, SandboxfileError
from sandboxfile.model import Resources
from tests.fakes.building import Events, packed, spec

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]


@pytest.fixture
def box(engine: Engine, busybox: str) -> Iterator[Box]:
    with engine.box(busybox, labels={"sandboxfile.tests": "box"}) as one:
        yield one


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    name = f"sandboxfile-tests/box:{uuid.uuid4().hex}"
    yield name
    engine.untag(name)


def shell(box: Box, script: str) -> str:
    done = box.execute(("/bin/sh", "-c", script))
    assert done.status == 0, done.output
    return done.output


def test_a_command_has_output_and_status(box: Box) -> None:
    done = box.execute(("/bin/sh", "-c", "echo out; echo err >&2; exit 3"))
    assert done.status == 3
    assert sorted(done.output.splitlines()) == ["err", "out"]


def test_arguments_arrive_as_they_are(box: Box) -> None:
    arguments = ("two words", "it's", '"$HOME"', "", "-n", "h\u00e9\n")
    done = box.execute(("/bin/sh", "-c", 'for each; do echo "<$each>"; done', "sh", *arguments))
    assert done.output == "".join(f"<{each}>\n" for each in arguments)


def test_bytes_that_are_no_text_are_replaced(box: Box) -> None:
    assert box.execute(("printf", r"a\377b\n")).output == "a\ufffdb\n"


def test_lines_come_while_the_command_runs(box: Box) -> None:
    seen = []

    def answer(line: str) -> None:
        seen.append(line)
        if line == "waiting":
            shell(box, "touch /tmp/go")

    script = "echo waiting; until test -e /tmp/go; do sleep 0.05; done; printf last"
    assert box.execute(("/bin/sh", "-c", script), on_line=answer).status == 0
    assert seen == ["waiting", "last"]


def test_user_directory_and_environment_are_those_of_the_call(box: Box) -> None:
    done = box.execute(
        ("/bin/sh", "-c", 'id -un; pwd; echo "$ONE"'),
        user="user",
        workdir="/tmp",
        env={"ONE": "a=b c"},
    )
    assert done.output == "user\n/tmp\na=b c\n"


def test_what_is_made_is_readable_by_all(box: Box) -> None:
    assert shell(box, "umask; touch /tmp/made; stat -c %a /tmp/made") == "0022\n644\n"


def test_a_command_that_is_not_there_has_status_127(box: Box) -> None:
    done = box.execute(("no-such-command",))
    assert done.status == 127
    assert "no-such-command: not found" in done.output


def test_the_container_has_the_resources_of_the_template(engine: Engine, busybox: str) -> None:
    wanted = Resources(cpu=1, memory=256)
    with engine.box(busybox, labels={}, resources=wanted) as box:
        limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
        assert str(256 * 1024 * 1024) in shell(box, f"cat {limits} 2>/dev/null; :").split()


def test_a_container_is_removed_whatever_happens(engine: Engine, busybox: str) -> None:
    with pytest.raises(ZeroDivisionError), engine.box(busybox, labels={}) as box:
        _ = 1 // 0
    with pytest.raises(SandboxfileError, match="No such container"):
        box.execute(("true",))


def test_left_boxes_are_removed_by_label(engine: Engine, busybox: str) -> None:
    mark = {"sandboxfile.tests.box": uuid.uuid4().hex}
    with engine.box(busybox, labels=mark) as box:
        engine.remove_boxes(labels={**mark, "other": "label"})
        assert shell(box, "echo still here") == "still here\n"
        engine.remove_boxes(labels=mark)
        with pytest.raises(SandboxfileError, match="No such container"):
            box.execute(("true",))


def test_a_command_ends_when_its_container_is_removed(engine: Engine, busybox: str) -> None:
    mark = {"sandboxfile.tests.box": uuid.uuid4().hex}
    removal = threading.Thread(target=engine.remove_boxes, kwargs={"labels": mark})
    command = ("/bin/sh", "-c", "echo on; sleep 100")
    with engine.box(busybox, labels=mark) as box:
        try:
            status = box.execute(command, on_line=lambda _: removal.start()).status
        except SandboxfileError as error:  # what is asked last, it or its status, is a race
            status = 137
            assert "the container went away" in str(error)  # noqa: PT017
    removal.join()
    assert status == 137


def test_an_image_without_a_shell_is_explained(engine: Engine, tag: str, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(packed({"file": b""}))
    engine.load_root(tmp_path / "root.tar", tag, labels={})
    with pytest.raises(BuildFailed, match="has no /bin/sh"), engine.box(tag, labels={}):
        pass


def test_an_absent_image_is_an_error(engine: Engine) -> None:
    with (
        pytest.raises(BuildFailed, match="no container of `sandboxfile-tests/absent:1`"),
        engine.box("sandboxfile-tests/absent:1", labels={}),
    ):
        pass


# --- commit ----------------------------------------------------------------------------------

KEPT = ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts")


def kept(config: Mapping[str, object]) -> dict[str, object]:
    return {key: config.get(key) or None for key in KEPT}


def test_a_commit_keeps_files_and_how_the_image_starts(
    engine: Engine, busybox: str, tag: str
) -> None:
    dockerfile = f"""\
        FROM {busybox}
        ENV A=1 PATH=/bin
        LABEL of=image both=image
        ENTRYPOINT ["/entry"]
        CMD ["one", "two"]
        EXPOSE 80
        USER user
        WORKDIR /home/user
        """
    image = f"{tag}-base"
    engine.build(spec(dockerfile, image), emit=Events().emit, cancel=Cancel())
    before = engine.image_config(image)
    with engine.box(image, labels={"of-box": "box", "both": "box"}) as box:
        assert shell(box, "id -un; pwd; echo $A; echo saved > saved") == "user\n/home/user\n1\n"
        image_id = box.commit(tag, labels={"of-commit": "commit", "both": "commit"})
    assert engine.find(tag) == image_id
    after = engine.image_config(tag)
    assert kept(after) == kept(before)
    assert after["Labels"] == {
        "of": "image",
        "of-box": "box",
        "of-commit": "commit",
        "both": "commit",
        "sandboxfile.tests": "busybox",
    }
    with engine.box(tag, labels={}) as box:
        assert shell(box, "cat saved") == "saved\n"
    engine.untag(tag)
    engine.untag(image)


def test_a_commit_does_not_freeze_a_command_that_is_starting(box: Box, tag: str) -> None:
    """The engine would never answer again: the runtime waits in the cgroup that it must thaw."""
    for number in range(12):
        marks: list[str] = []
        command = ("/bin/sh", "-c", f"echo {number}; sleep 0.3")
        thread = threading.Thread(
            target=box.execute, args=(command,), kwargs={"on_line": marks.append}
        )
        thread.start()
        time.sleep(number * 0.01)  # at another moment of the start each time
        box.commit(tag, labels={})
        thread.join()
        assert marks == [str(number)]


# --- a terminal ------------------------------------------------------------------------------

INTERACT = """
import sys
from sandboxfile.engines.choose import choose
from sandboxfile.model import EngineChoice
url, image, tty, *argv = sys.argv[1:]
engine = choose(EngineChoice(), environ={"DOCKER_HOST": url}, network="host")
with engine.box(image, labels={}) as box:
    tty = tty == "tty"
    status = box.interact(tuple(argv), tty=tty, user="user", workdir="/tmp", env={"A": "1"})
engine.close()
print(f"status {status}")
"""


def interacting(docker_host: str, busybox: str, tty: str, *argv: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(INTERACT), docker_host, busybox, tty, *argv]


def test_without_a_terminal_streams_are_joined_byte_for_byte(
    docker_host: str, busybox: str
) -> None:
    data = os.urandom(300_000)
    script = 'cat; echo "err $A" >&2; id -un >&2; exit 6'
    done = subprocess.run(
        interacting(docker_host, busybox, "plain", "/bin/sh", "-c", script),
        input=data,
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert done.stdout == data + b"status 6\n"
    assert done.stderr == b"err 1\nuser\n"


def test_a_terminal_has_keys_signals_and_the_size_of_the_window(
    docker_host: str, busybox: str
) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        command = interacting(docker_host, busybox, "tty", "/bin/sh")
        os.execv(command[0], command)
    screen = Screen(terminal)
    screen.resize(33, 101)
    screen.expect("$ ")
    screen.repeat("stty size\n", "33 101")
    screen.resize(44, 111)
    screen.repeat("stty size\n", "44 111")
    screen.type("sleep 1000\n")
    screen.expect("sleep 1000")
    screen.repeat("\x03", "^C")
    screen.type("exit 5\n")
    screen.expect("status 5")
    screen.drain()
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)


class Screen:
    """The user's side of a pseudo terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = ""

    def resize(self, lines: int, columns: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def expect(self, text: str, seconds: float = 30) -> bool:
        """Wait for text; what came before it is forgotten. Fails when it does not come."""
        end = time.monotonic() + seconds
        while text not in self._seen:
            if not self._read(end):
                assert seconds < 30, f"`{text}` never came: {self._seen!r}"
                return False
        self._seen = self._seen.partition(text)[2]
        return True

    def repeat(self, keys: str, text: str) -> None:
        """Type until the answer comes: the shell notices the window's size a moment later."""
        for _ in range(40):
            self.type(keys)
            if self.expect(text, 0.5):
                return
        raise AssertionError(f"`{text}` never came: {self._seen!r}")

    def drain(self) -> None:
        while self._read(time.monotonic() + 30):
            pass

    def _read(self, end: float) -> bool:
        readable, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
        try:
            data = os.read(self._terminal, 65536) if readable else b""
        except OSError:  # the other side is closed
            data = b""
        self._seen += data.decode("utf-8", "replace")
        return bool(data)
