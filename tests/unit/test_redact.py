"""Nothing secret and nothing that steers a terminal gets through."""

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxfile.model import Secret
from sandboxfile.redact import MASK, Redactor, sanitise

SECRET = "s3cr&t/'v\"al$ue\\+é"
SECRETS = st.text(min_size=6, max_size=40).filter(lambda s: len(s.strip()) >= 6)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


ENCODERS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
    "url": lambda s: urllib.parse.quote(s, safe=""),
    "url path": urllib.parse.quote,
    "url lower": lambda s: re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(s, safe="")),
    "form": urllib.parse.quote_plus,
    "percent": lambda s: "".join(f"%{b:02X}" for b in s.encode()),
    "json": json.dumps,
    "json utf-8": lambda s: json.dumps(s, ensure_ascii=False),
    "json slash": lambda s: json.dumps(s).replace("/", "\\/"),
    "xml": lambda s: s.replace("&", "&amp;"),
    "html": html.escape,
    "python": repr,
    "shell": shlex.quote,
    "shell '": lambda s: "'" + s.replace("'", "'\\''") + "'",
    'shell "': lambda s: re.sub(r'([\\"$`])', r"\\\1", s),
    "compose": lambda s: s.replace("$", "$$"),
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_a_secret_is_found_in_every_usual_encoding(encode: Callable[[str], str]) -> None:
    shown = Redactor([SECRET]).text(f"before {encode(SECRET)} after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert MASK in shown
    assert encode(SECRET).strip("'\"") not in shown


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "z", "zz"])
def test_base64_hides_nothing_whatever_stands_around(before: str, after: str) -> None:
    secret = "hunter2-hunter3"
    whole = base64_of(before + secret + after)
    shown = Redactor([secret]).text(whole)
    assert MASK in shown
    assert len(shown.replace(MASK, "")) <= len(whole) - (len(secret) - 1) * 8 // 6
    url_safe = base64.urlsafe_b64encode(f"{before}{'?~' * 8}{after}".encode()).decode()
    assert MASK in Redactor(["?~" * 8]).text(url_safe)


def test_secret_values_are_accepted_as_such_and_trimmed() -> None:
    redactor = Redactor([Secret("  padded-secret \n")])
    assert redactor.text("x padded-secret y") == "x *** y"


def test_each_line_of_a_long_secret_is_hidden() -> None:
    redactor = Redactor(["-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nab\n-----END KEY-----\n"])
    assert redactor.text("MIIEpAIBAAKCAQEA and ab") == "*** and ab"
    assert redactor.lines("MIIEpAIBAAKCAQEA\nfine") == "***\nfine"


def test_short_secrets_are_not_looked_for() -> None:
    assert Redactor(["on", ""]).text("based on it") == "based on it"


def test_a_redactor_without_secrets_changes_nothing() -> None:
    redactor = Redactor()
    assert redactor.text("anything") == "anything"


def test_secrets_may_come_later() -> None:
    redactor = Redactor(["first-secret"])
    redactor.add(Secret("second-secret"))
    assert redactor.text("first-secret second-secret") == "*** ***"


@settings(deadline=None)
@given(SECRETS, st.text(max_size=30), st.text(max_size=30))
def test_no_text_lets_a_secret_through(secret: str, left: str, right: str) -> None:
    shown = Redactor([secret]).text(left + secret + right)
    assert MASK in shown
    assert secret not in shown.replace(MASK, "\0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode\ttab", "plain ünïcode\ttab"),
        ("\x1b[1;32mgreen\x1b[0m", "green"),
        ("\x1b[2J\x1b[Hgone", "^[[2J^[[Hgone"),
        ("\x1b]0;title\x07", "^[]0;title^G"),
        ("a\x00b\x08c\x7f\x9b31m", "a^@b^Hc\\x7f\\x9b31m"),
        ("50%\r100%\r", "50%^M100%"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("one\u2028two\x85three\x0bfour", "one\\u2028two\\x85three^Kfour"),
        ("tag\U000e0041", "tag\\ue0041"),
        ("half \ud800", "half \\ud800"),
        ("kept apart\U000e0100", "kept apart\\ue0100"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert sanitise(text) == shown


@pytest.mark.parametrize("command", ["::add-mask::x", "  ::error::x", "see ##[command]x"])
def test_a_ci_system_finds_no_command(command: str) -> None:
    shown = sanitise(f"ok\n{command}", ci=True)
    assert [line[:2] for line in shown.split("\n")] == ["│ ", "│ "]
    assert "##[" not in shown
    assert sanitise(command) == command


def test_long_lines_are_cut_and_say_so() -> None:
    assert sanitise("x" * 5000) == "x" * 4096 + "… (+904 characters)"
    assert sanitise("x" * 4096) == "x" * 4096


def test_a_secret_at_the_cut_is_hidden_whole() -> None:
    shown = Redactor(["hunter2-hunter3"]).line("x" * 4090 + "hunter2-hunter3")
    assert shown == "x" * 4090 + MASK


def test_a_line_is_defused_redacted_and_prefixed() -> None:
    redactor = Redactor(["hunter2-hunter3"])
    assert redactor.line("\x1b[1m::set x=hunter2-hunter3", ci=True) == "│ ::set x=***"
    assert redactor.lines("a\n::b", ci=True) == "│ a\n│ ::b"


def test_colour_inside_a_secret_does_not_save_it() -> None:
    assert Redactor(["hunter2-hunter3"]).line("hunter2\x1b[0m-hunter3") == MASK


@settings(deadline=None)
@given(st.text())
def test_what_is_shown_has_no_control_characters(text: str) -> None:
    for line in sanitise(text).split("\n"):
        assert all(c == "\t" or ord(c) >= 0x20 for c in line)
        assert not set(line) & {"\x7f", "\x9b", "\u202e", "\u200b", "\u2028"}
