import json

import pytest

from sandboxfile.local import wire
from sandboxfile.local.records import Refusal
from sandboxfile.local.wire import Fields


def test_times_are_written_in_utc() -> None:
    assert wire.timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert wire.timestamp(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456Z"


def test_answers_are_compact_json_with_their_headers() -> None:
    made = wire.answer(200, {"ä": [1, None]}, X_Next_Token="t")
    assert made.body == '{"ä":[1,null]}'.encode()
    assert made.headers == {"Content-Type": "application/json", "X-Next-Token": "t"}
    assert json.loads(wire.refusal(404, "no").body) == {"code": 404, "message": "no"}


def test_fields_are_read_by_their_types() -> None:
    fields = Fields.read(b'{"a": "x", "n": 3, "f": false, "l": ["y"], "o": {"p": "q"}, "z": null}')
    assert fields.text("a") == fields.required("a") == "x"
    assert (fields.number("n", 1), fields.number("z", 1)) == (3, 1)
    assert (fields.flag("f"), fields.flag("z")) == (False, None)
    assert (fields.texts("l"), fields.texts("z"), fields.texts("nope")) == (("y",), (), ())
    nested = fields.nested("o")
    assert nested is not None
    assert nested.text("p") == "q"
    assert fields.nested("z") is None
    assert fields.objects("z") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, 7),
        ("0", 0),
        ("100", 100),
        ("101", None),
        ("-1", None),
        ("x", None),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_numbers_of_a_query_have_limits(text: str | None, expected: int | None) -> None:
    query = {"n": text} if text is not None else {}
    if expected is None:
        with pytest.raises(Refusal, match="must be a number from 0 to 100") as caught:
            wire.query_number(query, "n", 7, low=0, high=100)
        assert caught.value.status == 400
    else:
        assert wire.query_number(query, "n", 7, low=0, high=100) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\\ud800"}',
        b'{"tags": ["v1", "\\udfff"]}',
        b'{"\\ud800": 1}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"memoryMB": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"[]",
        b"\xff",
    ],
)
def test_a_body_that_nothing_could_store_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal, match="Invalid request body") as caught:
        Fields.read(body)
    assert caught.value.status == 400
    assert caught.value.message.encode()
