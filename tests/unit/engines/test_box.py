"""Commands that newer engines refuse to start; what is kept of a command's output."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from sandboxfile.engines import Box
from sandboxfile.engines.box import Tail
from sandboxfile.engines.docker import DockerEngine
from sandboxfile.engines.transport import Address
from sandboxfile.engines.wire import Refused
from tests.fakes.engine import VERSION, Answer, FakeEngine, serving

NOBODY = "unable to find user nobody: no matching entries in passwd file"


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with serving() as fake:
        fake.answers |= {
            "GET /version": Answer(body=VERSION),
            "GET /info": Answer(body={}),
            "POST /containers/create": Answer(status=201, body={"Id": "c1"}),
            "HEAD /containers/c1/archive": Answer(),
            "POST /containers/c1/start": Answer(status=204),
            "DELETE /containers/c1": Answer(status=204),
        }
        yield fake


@pytest.fixture
def box(fake: FakeEngine) -> Iterator[Box]:
    with closing(DockerEngine(Address(url=fake.url))) as engine, engine.box("i", labels={}) as box:
        yield box


@pytest.mark.parametrize("refused", ["POST /containers/c1/exec", "POST /exec/e1/start"])
def test_a_command_of_a_user_who_is_not_there_ends_as_on_engines_that_start_it(
    fake: FakeEngine, box: Box, refused: str
) -> None:
    fake.answers["POST /containers/c1/exec"] = Answer(status=201, body={"Id": "e1"})
    fake.answers[refused] = Answer(status=400, body={"message": NOBODY})
    done = box.execute(("true",), user="nobody")
    assert (done.status, done.output) == (126, NOBODY)


def test_what_else_an_engine_refuses_is_an_error(fake: FakeEngine, box: Box) -> None:
    message = "container c1 is not running"
    fake.answers["POST /containers/c1/exec"] = Answer(status=409, body={"message": message})
    with pytest.raises(Refused, match=message):
        box.execute(("true",))


def test_only_the_end_of_an_output_without_end_is_kept() -> None:
    tail = Tail(8)
    assert tail.text == ""
    for _ in range(1000):
        tail.add(b"0123")
    tail.add("€end".encode())
    assert tail.text == "23€end"
    assert len(tail._pieces) == 2
