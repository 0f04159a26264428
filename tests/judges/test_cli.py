"""What the E2B command line, version 2, does with templates, on the local service."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.judges.conftest import Open

pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Cli:
    """Runs commands of `e2b template` in a directory of its own."""

    node: str
    script: Path
    environ: Mapping[str, str]
    root: Path

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.node, str(self.script), "template", *argv],
            cwd=self.root,
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def succeed(self, *argv: str) -> str:
        done = self.run(*argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return all templates by their aliases."""
        rows = json.loads(self.succeed("list", "--format", "json"))
        return {alias: row for row in rows for alias in row["aliases"]}


@pytest.fixture
def cli(node: str, npm_packages: Path, environ: Mapping[str, str], tmp_path: Path) -> Cli:
    return Cli(
        node=node,
        script=npm_packages / "e2b-cli-2" / "dist" / "index.js",
        environ=environ,
        root=tmp_path,
    )


def test_a_template_is_created_listed_and_deleted(
    cli: Cli, image: str, open_build: Open, nonce: str
) -> None:
    (cli.root / "app").mkdir()
    (cli.root / "app" / "main.py").write_text("print(1)\n")
    (cli.root / "e2b.Dockerfile").write_text(
        f"FROM {image}\n"
        "ENV CHANNEL=edge\n"
        "WORKDIR /srv/app\n"
        "COPY app/ .\n"
        f"RUN echo $CHANNEL {nonce} | tee /channel\n"
    )
    said = cli.succeed(
        "create", nonce, "--cpu-count", "1", "--memory-mb", "128",
        "--cmd", "pwd >/tmp/part; mv /tmp/part /tmp/started; sleep 60",
        "--ready-cmd", "test -s /tmp/started",
    )  # fmt: skip
    assert f"edge {nonce}" in said

    row = cli.listed()[nonce]
    assert (row["cpuCount"], row["memoryMB"], row["buildStatus"]) == (1, 128, "ready")
    assert row["templateID"] in said
    inside = open_build(row["buildID"])
    assert inside.sh("cat /channel /tmp/started") == f"edge {nonce}\n/srv/app"
    assert inside.sh("cat /srv/app/main.py") == "print(1)"
    assert nonce in cli.succeed("list")

    cli.succeed("delete", "--yes", row["templateID"])
    assert nonce not in cli.listed()


def test_a_failing_step_fails_the_command_with_its_reason(cli: Cli, image: str, nonce: str) -> None:
    (cli.root / "Dockerfile").write_text(f"FROM {image}\nRUN true\nRUN echo {nonce} && exit 7\n")

    done = cli.run("create", nonce, "--cpu-count", "1", "--memory-mb", "128")

    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"failed to run command 'echo {nonce} && exit 7': exit status 7" in said
    assert f"[stdout]: {nonce}" in said


def test_what_is_not_there_cannot_be_deleted(cli: Cli, nonce: str) -> None:
    done = cli.run("delete", "--yes", nonce)
    assert done.returncode != 0
    assert nonce in done.stdout + done.stderr
