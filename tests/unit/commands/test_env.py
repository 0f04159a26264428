"""Each form of `env` is read by what it is for, and says what the lock says."""

import subprocess
from pathlib import Path

import pytest

from tests.fakes import built
from tests.fakes.shell import User


@pytest.fixture
def done(three: User) -> User:
    """A workspace of which everything is built, with a name that is no variable."""
    three.replace("novita.yaml", "  other:", "  ot-her:")
    built.pretend(three.root)
    return three


def write(user: User, form: str, name: str) -> Path:
    ran = user.run("env", "--format", form)
    assert ran.code == 0
    return user.write(name, ran.out)


def ids(user: User) -> list[str]:
    found = user.run("env", "--json").data
    assert list(found) == ["parent", "child", "ot-her"]
    return [each[key] for each in found.values() for key in ("template_id", "build_id")]


NAMES = [f"NOVITA_{kind}_{name}" for name in ("PARENT", "CHILD", "OT_HER")
         for kind in ("TEMPLATE", "BUILD")]  # fmt: skip
PRINT = "; ".join(f'printf "%s\\n" "${name}"' for name in NAMES)


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("form", "read"), [("dotenv", "set -a; . ./it; set +a"), ("shell", 'eval "$(cat it)"')]
)
def test_shells_read_it(done: User, shell: str, form: str, read: str) -> None:
    write(done, form, "it")

    said = subprocess.check_output(
        [shell, "-euc", f"{read}; {shell} -euc '{PRINT}'"], cwd=done.root, text=True
    )

    assert said.split() == ids(done)


def test_python_imports_it(done: User) -> None:
    module: dict[str, dict[str, dict[str, str]]] = {}
    exec(write(done, "python", "templates.py").read_text(), module)

    assert [v for each in module["TEMPLATES"].values() for v in each.values()] == ids(done)


def test_node_imports_it(done: User, node: str) -> None:
    typescript = write(done, "typescript", "templates.ts").read_text()
    done.write("templates.mjs", typescript.replace(" as const;", ";"))  # all that is not JavaScript
    done.write(
        "print.mjs",
        'import { templates } from "./templates.mjs";\n'
        "for (const each of Object.values(templates))\n"
        "  console.log(each.template_id, each.build_id);\n",
    )

    said = subprocess.check_output([node, "print.mjs"], cwd=done.root, text=True)

    assert said.split() == ids(done)


def test_github_takes_it_as_outputs(done: User) -> None:
    """Lines are `name=value` (GitHub's documentation, Workflow commands, `GITHUB_OUTPUT`)."""
    output = done.write("output", "before=x\n")
    with output.open("a") as file:
        file.write(done.run("env", "--format", "github").out)

    pairs = dict(line.split("=", 1) for line in output.read_text().splitlines())

    assert pairs.pop("before") == "x"
    assert list(pairs.values()) == ids(done)
    assert list(pairs)[4:] == ["ot-her_template_id", "ot-her_build_id"]
