"""The guards of conftest.py catch what they are for."""

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import needs

ROOT = Path(__file__).parents[2]
CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_a_connection_that_leaves_the_machine_is_refused(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    for method in ("connect", "connect_ex"):
        with (
            socket.socket(family) as client,
            pytest.raises(RuntimeError, match="a test tried to reach"),
        ):
            getattr(client, method)(address)


def test_a_name_outside_is_not_looked_up() -> None:
    with pytest.raises(RuntimeError, match=r"a test tried to reach `registry\.example`"):
        socket.create_connection(("registry.example", 443))


def test_loopback_and_unix_sockets_stay_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with socket.create_connection((host, port)):
                pass
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_nobodys_settings_are_in_the_environment(home: Path) -> None:
    assert Path.home() == home
    assert "HOME" in os.environ
    assert os.environ["TZ"] == "UTC"
    assert os.environ["NO_COLOR"] == "1"
    for name in ("DOCKER_HOST", "DOCKER_CONFIG", "NOVITA_API_KEY", "E2B_API_KEY", "CI"):
        assert name not in os.environ
    assert not [name for name in os.environ if name.startswith("SANDBOXFILE_")]


RULES_BROKEN = {
    "import os; os.environ['LEFT'] = '1'": "left the environment changed: LEFT",
    "import os; del os.environ['TZ']": "left the environment changed: TZ",
    "from pathlib import Path; (Path.home() / 'x').touch()": "wrote to the home directory: x",
    "import socket; socket.create_connection(('192.0.2.1', 1))": "tried to reach `192.0.2.1`",
}


def test_a_test_that_breaks_a_rule_fails_and_not_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    tests = [
        f"def test_{n}(): {body}\ndef test_next_{n}(): pass\n"
        for n, body in enumerate(RULES_BROKEN)
    ]
    (tmp_path / "test_bad.py").write_text("".join(tests))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere", "HOME": "/nowhere"}
    environment["PYTHONPATH"] = str(CONFTEST.parents[1])
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    for complaint in RULES_BROKEN.values():
        assert complaint in done.stdout
    # Three are found when the test is torn down, one while it runs.
    assert "1 failed, 7 passed, 3 errors" in done.stdout


LEFT_BEHIND = """
import subprocess, sys, time
from dev.private import _swept, bound
subprocess.Popen(bound("sleep", "600"))
engine = subprocess.Popen(["sleep", "600"], start_new_session=True)
with _swept(str(engine.pid), sys.argv[1], "no-such-bridge"):
    print("running", file=sys.stderr, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_of_the_tests_had_started_ends(tmp_path: Path) -> None:
    needs("setpriv", "util-linux")
    directory = tmp_path / "engine"
    directory.mkdir()
    command = [sys.executable, "-c", LEFT_BEHIND, str(directory)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == "running\n"
        process.kill()
        ended, _, _ = select.select([process.stdout], [], [], 30)
        assert ended, "what it had started has its output, and goes on"
        process.communicate()  # it returns when the last of them has ended
    deadline = time.monotonic() + 30
    while directory.exists():
        assert time.monotonic() < deadline, "its files are left"
        time.sleep(0.01)
