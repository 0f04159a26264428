"""What sandboxfile is compared with, set up for a tree: make, ninja, doit, docker, compose, bake.

Each keeps its own files beside the tree, not in it. All of them build a template by the same
script, `build`; while it is `idle` it does nothing, so that stamps can be had without building.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.setting import Setting, has
from benchmarks.timing import Contender, Rounds, interleaved
from benchmarks.tree import FILES, FOLDER, PREFIX, Tree

PARALLEL = (2, 4, 8)
IDLE = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """The files of all peers for one tree."""

    directory: Path
    tree: Tree
    setting: Setting

    @property
    def _environ(self) -> Mapping[str, str]:
        return self.setting.environ

    def contender(self, name: str, *command: object, **env: str) -> Contender:
        words = tuple(str(word) for word in command)
        return Contender(name=name, command=words, cwd=self.directory, env={**self._environ, **env})

    def lacks(self, name: str, why: str) -> tuple[Contender, ...]:
        """Keep in mind what cannot be compared with."""
        self.setting.lacking[name] = why
        return ()

    # --- programs that wrap a build ------------------------------------------------------------

    def makers(self) -> tuple[Contender, ...]:
        """Return make, ninja and doit, each with one task for each template."""
        return (*self._make(), *self._ninja(), *self._doit())

    def _make(self) -> tuple[Contender, ...]:
        if not has("make", self._environ):
            return self.lacks("make", "it is not here (Debian: make)")
        stamps = self._stamps("make")
        rules = "".join(
            f"{stamp}: {' '.join(self._sources(name))}\n\t@{self.script} {name} && touch $@\n"
            for name, stamp in stamps.items()
        )
        text = f"MAKEFLAGS += -rR\nall: {' '.join(stamps.values())}\n{rules}"
        (self.directory / "Makefile").write_text(text)
        return (self.contender("make", "make", "all"),)

    def _ninja(self) -> tuple[Contender, ...]:
        beside = Path(sys.executable).with_name("ninja")
        program = str(beside) if os.access(beside, os.X_OK) else has("ninja", self._environ)
        if not program:
            return self.lacks("ninja", "it is not here (`pip install ninja`, Debian: ninja-build)")
        rules = "".join(
            f"build {stamp}: build {' '.join(self._sources(name))}\n  name = {name}\n"
            for name, stamp in self._stamps("ninja").items()
        )
        command = f"{self.script} $name && touch $out"
        text = f"builddir = .ninja\nrule build\n  command = {command}\n{rules}"
        (self.directory / "build.ninja").write_text(text)
        return (self.contender("ninja", program),)

    def _doit(self) -> tuple[Contender, ...]:
        tasks = {name: self._sources(name) for name in self.tree.names}
        (self.directory / "dodo.py").write_text(
            "DOIT_CONFIG = {'backend': 'sqlite3', 'dep_file': '.doit.db'}\n"
            f"TASKS = {tasks!r}\n\n\n"
            "def task_build():\n"
            "    for name, files in TASKS.items():\n"
            f"        action = '{self.script} ' + name\n"
            "        yield {'name': name, 'file_dep': files, 'actions': [action]}\n"
        )
        return (self.contender("doit", sys.executable, "-m", "doit", "run"),)

    def _stamps(self, kind: str) -> Mapping[str, str]:
        (self.directory / kind).mkdir()
        return {name: f"{kind}/{name}" for name in self.tree.names}

    def _sources(self, name: str) -> list[str]:
        files = [self.tree.dockerfile(name), *(self.tree.context(name) / f for f in FILES)]
        return [str(file) for file in files]

    # --- one build, and what does it -----------------------------------------------------------

    @property
    def script(self) -> Path:
        return self.directory / "build"

    def push(self, registry: str) -> str:
        """Return the shell words that push what was built."""
        image = f'{registry}/{PREFIX}/"$1":raw'
        docker = self.setting.docker
        return f'{docker} tag {PREFIX}/"$1":raw {image}\n{docker} push --quiet {image} >/dev/null'

    def idle(self) -> None:
        self._write(self.script, IDLE)

    def arm(self, *after: str) -> None:
        """Let the script build for real, and then do what `after` says, in shell."""
        templates = self.tree.root / "templates"
        build = (
            f'DOCKER_BUILDKIT=1 {self.setting.docker} build --quiet --tag {PREFIX}/"$1":raw'
            f' {templates}/"$1" >/dev/null'
        )
        self._write(self.script, "#!/bin/sh -e\n" + "\n".join([build, *after]) + "\n")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    # --- docker's own ways ---------------------------------------------------------------------

    def serial(self, names: Sequence[str]) -> Contender:
        """Return the script for one template after the other."""
        loop = f'for name in {" ".join(names)}; do {self.script} "$name"; done'
        return self.contender("docker_build_serial", "sh", "-ec", loop)

    def parallel(self, names: Sequence[str], at_once: int) -> Contender:
        """Return the script for as many templates at once."""
        listed = self.directory / f"names-{len(names)}"
        listed.write_text("\n".join(names) + "\n")
        command = f"xargs -P {at_once} -n 1 {self.script} <{listed}"
        return self.contender(f"docker_build_p{at_once}", "sh", "-ec", command)

    def compose(self) -> tuple[Contender, ...]:
        """Return Docker Compose's way to build all that there is, the new one or the old."""
        services = {
            name: {"image": f"{PREFIX}/{name}:compose", "build": self._build(name)}
            for name in self.tree.names
        }
        file = self.directory / "compose.yaml"
        file.write_text(json.dumps({"version": "3.4", "services": services}))
        if self._answers(self.setting.docker or "", "compose", "version"):
            return (self.contender("compose", "docker", "compose", "--file", file, "build"),)
        program = has("docker-compose", self._environ)
        if not program or not self._answers(program, "version"):
            return self.lacks(
                "compose", "it is not here (Debian 12: docker-compose, 13: docker-compose-v2)"
            )
        words = (program, "--file", file, "build", "--parallel", "--quiet")
        old = {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"}
        return (self.contender("compose", *words, **old),)

    def bake(self) -> tuple[Contender, ...]:
        """Return `docker buildx bake` of everything."""
        if not self._answers(self.setting.docker or "", "buildx", "version"):
            why = "docker has no buildx here (Debian 13: docker-buildx; Docker's own packages)"
            return self.lacks("bake", why)
        targets = {
            name: {**self._build(name), "tags": [f"{PREFIX}/{name}:bake"]}
            for name in self.tree.names
        }
        file = self.directory / "bake.json"
        file.write_text(
            json.dumps({"group": {"default": {"targets": [*targets]}}, "target": targets})
        )
        words = ("docker", "buildx", "bake", "--file", file, "--load", "--progress", "quiet")
        return (self.contender("bake", *words),)

    def _build(self, name: str) -> Mapping[str, str]:
        return {"context": str(self.tree.dockerfile(name).parent)}

    def _answers(self, *command: str) -> bool:

        if not command[0]:
            return False
        return (
            subprocess.run(command, env=self._environ, capture_output=True, check=False).returncode
            == 0
        )

    def docker_sdk(self, names: Sequence[str]) -> Contender:
        """Return the docker SDK's building of one template after the other."""
        script = Path(__file__).with_name("dockersdk.py")
        words = (script, self.tree.root / "templates", *names)
        return self.contender("docker_sdk", sys.executable, "-P", *words)

    # --- Novita's SDK --------------------------------------------------------------------------

    def sdk(self) -> tuple[Contender, ...]:
        """Return the SDK's hashing of every template's files."""
        if find_spec("novita_sandbox") is None:
            return self.lacks("sdk", "it is not here (`pip install --group judges`)")
        script = Path(__file__).with_name("sdk.py")
        words = (script, self.tree.root, FOLDER, *self.tree.names)
        return (self.contender("sdk", sys.executable, "-P", *words),)


def of(tree: Tree, setting: Setting, name: str) -> Peers:
    """Return the peers for a tree, their script idle; `name` is that of their directory."""
    peers = Peers(directory=setting.room(name), tree=tree, setting=setting)
    peers.idle()
    return peers


def best(contenders: Iterable[Contender]) -> Contender:
    """Return the one that is fastest in the better of two rounds."""
    known = {each.name: each for each in contenders}
    found = interleaved(known.values(), Rounds(least=2, most=2, budget_s=0, warm=0))
    name = min(found, key=lambda each: min(sample.seconds for sample in found[each]))
    return known[name]
