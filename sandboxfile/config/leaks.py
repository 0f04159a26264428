"""What looks like a secret: found before it is built into an image, masked before it is shown."""

import math
from collections import Counter
from collections.abc import Iterator

from sandboxfile.frozen import dataclass
from sandboxfile.patterns import regex

# Formats that issuers publish, so that a leaked key can be recognised.
_KNOWN = regex(
    r"(?P<aws>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b)"
    r"|(?P<github>\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,})"
    r"|(?P<gitlab>\bglpat-[A-Za-z0-9_-]{16,})"
    r"|(?P<sandbox>\bnvta_[A-Za-z0-9_-]{8,}|\b(?:sk_)?e2b_[0-9a-f]{20,})"
    r"|(?P<model>\bsk[-_][A-Za-z0-9_-]{20,})"
    r"|(?P<slack>\bxox[abeoprs]-[A-Za-z0-9-]{10,})"
    r"|(?P<google>\bAIza[0-9A-Za-z_-]{35})"
    r"|(?P<npm>\bnpm_[A-Za-z0-9]{36})"
    r"|(?P<python>\bpypi-[A-Za-z0-9_-]{50,})"
    r"|(?P<pem>-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----[^\n]*)"
    r"|(?P<jwt>\beyJ[A-Za-z0-9_-]{8,999}\.[A-Za-z0-9_-]{8,9999}\.[A-Za-z0-9_-]{8,})"
)
_KINDS = {
    "aws": "an AWS access key",
    "github": "a GitHub token",
    "gitlab": "a GitLab token",
    "sandbox": "a key of the sandbox service",
    "model": "an API key",
    "slack": "a Slack token",
    "google": "a Google API key",
    "npm": "an npm token",
    "python": "a Python package index token",
    "pem": "a private key",
    "jwt": "a JSON web token",
}
# A password from a shell variable (`$`) is not in the file.
_USERINFO = regex(r"://([^\s/:@\"'$]*:[^\s/@\"'$]+)@")
# What database drivers take besides URLs: `me:pw@tcp(host)/db`, `host=db user=me password=pw`.
_DSN = regex(r"[^\s:@/\"'$]{0,64}:([^\s@\"'$]{1,200})@(?:tcp|udp|unix)\(")
_PAIRS = regex(
    r"(?i)(?=.{0,999}\b(?:host|server|data source|dbname|database|user(?: id)?|uid) ?=)"
    r".{0,999}?\b(?:password|pwd) ?= ?([^\s;'\"$][^\s;]{0,200})"
)
_ASSIGNED = regex(r"(?:=|: ?|[Bb]earer )[\"']?([A-Za-z0-9+_-]{20,}={0,2})(?![A-Za-z0-9/.])")
_WHOLE = regex(r"(?![./])[A-Za-z0-9+/_-]{20,}={0,2}")
# Only for masking: where a password or a random text may stand in a file that is otherwise wrong.
_BARE = regex(r"[\w.+-]{1,64}:([^\s/@\"'$,{}]{1,200})@(?!sha256:)[\w.-]")
_VALUE = regex(r"(?:=|: ?)[\"']?((?![./])[A-Za-z0-9+/_-]{20,}={0,2})")
_NAMED = regex(
    r"(?i)\b\w*(?:password|passwd|token|secret|api_?key|credentials)[\"']?[:=] *([^\s,{}]+)"
)
# Every one of `_KNOWN` and `_ASSIGNED` has so many characters in a row, `-----BEGIN` just these;
# few other texts have them.
_LONG = regex(r"[A-Za-z0-9+_-]{10}")
_BITS = 4.0  # per character, over at least 20 characters: hexadecimal digests stay below


@dataclass(frozen=True, slots=True)
class Leak:
    """A stretch of text that looks like a secret; `kind` says what it looks like."""

    text: str
    kind: str


def find(text: str) -> Leak | None:
    """Return what looks like a secret in a command or another free text."""
    is_long = _LONG.search(text)
    if is_long and (match := _KNOWN.search(text)):
        return Leak(match.group(), _KINDS[str(match.lastgroup)])
    if "://" in text and (match := _USERINFO.search(text)):
        return Leak(match.group(1), "a password in a URL")
    if not is_long:
        return None
    for match in _ASSIGNED.finditer(text):
        if _is_random(match.group(1)):
            return Leak(match.group(1), "a secret")
    return None


def find_value(text: str) -> Leak | None:
    """Return what looks like a secret in a value that stands alone, as of a variable."""
    if _WHOLE.fullmatch(text) and _is_random(text):
        return Leak(text, "a secret")
    if match := _DSN.match(text) or _PAIRS.match(text):
        return Leak(match.group(1), "a password of a database")
    return find(text)


def mask(line: str) -> str:
    """Replace what looks like a secret by as many asterisks, so that columns stay."""
    characters = list(line)
    for start, end in _spans(line):
        characters[start:end] = "*" * (end - start)
    return "".join(characters)


def _spans(line: str) -> Iterator[tuple[int, int]]:
    for match in _KNOWN.finditer(line):
        yield match.span()
    for pattern in (_USERINFO, _BARE, _NAMED):
        yield from (match.span(1) for match in pattern.finditer(line))
    for pattern in (_ASSIGNED, _VALUE):
        yield from (m.span(1) for m in pattern.finditer(line) if _is_random(m.group(1)))


def _is_random(text: str) -> bool:
    kinds = (str.isupper, str.islower, str.isdigit)
    if not all(any(kind(c) for c in text) for kind in kinds):
        return False
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values()) > _BITS
