"""A base that moves at a real registry, and what is built on it afterwards."""

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from tests.fakes.building import spec
from tests.fakes.shell import User

pytestmark = pytest.mark.engine

TEXT = """\
version: 1
templates:
  parent: {{base: "{base}", run: [cat /age > /seen], files: [note -> /note]}}
  child: {{base: {{template: parent}}, env: {{A: b}}}}
"""


def test_a_base_is_outdated_upgraded_and_built_on(
    user: User, engine: Engine, busybox: str, registry: str, nonce: str
) -> None:
    repository, name = f"{registry}/moving", f"moving:{nonce}"

    def push(age: str) -> None:
        text = f"FROM {busybox}\nRUN echo {age} > /age\n"
        engine.build(spec(text, name), emit=lambda _: None, cancel=Cancel())
        engine.push(
            name, repository, nonce, login=None, emit=lambda _: None, cancel=Cancel(), job="base"
        )
        engine.untag(name)

    push(f"old-{nonce}")
    user.write("novita.yaml", TEXT.format(base=f"{repository}:{nonce}"))
    user.write("note", nonce)
    assert user.run("build").code == 0
    assert user.run("outdated", "--exit-code").code == 0
    push(f"new-{nonce}")

    assert user.run("outdated", "--exit-code").code == 2
    assert user.run("build", "--locked").code == 0  # until it is taken
    assert user.run("lock", "--upgrade").code == 0
    assert user.run("build", "--locked").code == 4
    assert user.run("build").code == 0

    assert user.command("run", "child", "--", "cat", "/seen").out == f"new-{nonce}\n"
    assert user.run("outdated", "--exit-code").code == 0
