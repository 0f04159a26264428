"""A stand-in for docker-buildx with a builder of its own, where there is no real one.

It builds in the engine of the tests, under names that nobody else uses, pushes from there and takes
the image away again: like a real one it knows no image but those of registries. What it was asked
is written beside it. SF_TEST_BUILDX (the program) and SF_TEST_BUILDKIT (the address of a buildkitd
that pushes to registries on loopback by http) take the real things instead.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUILDER = "sf-tests"
PROGRAM = """\
#!{python}
import json, os, re, sys
from pathlib import Path

import docker

words = sys.argv[1:]
if words[0] == "version":
    print("github.com/docker/buildx v0.13.1 stand-in")
    raise SystemExit
if words[0] == "inspect":
    print("Name: {builder}\\nDriver: remote\\n\\nNodes:\\nName: n0\\nEndpoint: tcp://127.0.0.1:1")
    print("Status: running\\nPlatforms: linux/amd64")
    raise SystemExit
with Path(__file__).with_name("asked").open("a") as file:
    file.write(json.dumps(words) + "\\n")
options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
output = dict(field.partition("=")[::2] for field in options.get("output", "").split(","))
name = output.get("name") or options["tag"]
args = dict(
    word.partition("=")[2].partition("=")[::2] for word in words if word.startswith("--build-arg=")
)
api = docker.APIClient(base_url=os.environ["DOCKER_HOST"])
hidden = name if "tag" in options else f"127.0.0.1:1/{{os.urandom(8).hex()}}:x"
params = {{
    "version": "2", "t": hidden, "dockerfile": options["file"], "buildargs": json.dumps(args),
    "networkmode": options.get("network", "host"), "target": options.get("target", ""),
}}
answer = api.post(
    f"{{api.base_url}}/v{{api.api_version}}/build", params=params, data=sys.stdin.buffer,
    headers={{"Content-Type": "application/x-tar"}}, stream=True,
)
for line in answer.iter_lines():
    message = json.loads(line)
    if "errorDetail" in message:
        sys.exit("ERROR: failed to solve: " + message["errorDetail"]["message"])
if "tag" not in options:
    repository, _, tag = name.rpartition(":")
    api.tag(hidden, repository, tag)
    pushed = [each for each in api.push(repository, tag, stream=True, decode=True)]
    said = " ".join(str(each.get("status", each)) for each in pushed)
    digest = re.search(r"digest: (sha256:[0-9a-f]+)", said)
    for each in (name, hidden):
        api.remove_image(each)
    if digest is None:
        sys.exit("ERROR: " + said)
    Path(options["metadata-file"]).write_text(json.dumps({{"containerimage.digest": digest[1]}}))
"""


@dataclass(frozen=True, kw_only=True)
class Buildx:
    """A docker-buildx that knows the builder `sf-tests`; `environ` is how it is found."""

    environ: Mapping[str, str]
    directory: Path
    is_real: bool

    @property
    def asked(self) -> list[list[str]]:
        """The words of each build, in order; a real one notes none."""
        text = (self.directory / "asked").read_text()
        return [json.loads(line) for line in text.splitlines()]


def buildx(directory: Path, path: str) -> Buildx:
    """Put a docker-buildx among the user's plug-ins, which come before the machine's.

    It is in front of the PATH, too.
    """
    (directory / "cli-plugins").symlink_to(".")
    program = directory / "docker-buildx"
    environ = {
        "PATH": f"{directory}:{path}",
        "DOCKER_CONFIG": str(directory),
        "BUILDX_CONFIG": str(directory / "config"),
    }
    real, address = os.environ.get("SF_TEST_BUILDX"), os.environ.get("SF_TEST_BUILDKIT")
    if not real or not address:
        program.write_text(PROGRAM.format(python=sys.executable, builder=BUILDER))
        program.chmod(0o755)
        return Buildx(environ=environ, directory=directory, is_real=False)
    program.symlink_to(real)
    create = [real, "create", "--name", BUILDER, "--driver", "remote", address]
    subprocess.run(create, env={**os.environ, **environ}, check=True, capture_output=True)
    return Buildx(environ=environ, directory=directory, is_real=True)
