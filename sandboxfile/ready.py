"""Shell text of ready checks: exit status 0 means ready.

The text runs in the image, under whichever of bash, dash and busybox sh is there, every two
seconds until it succeeds (docs/protocol.md, 5.5). It needs no tools where /proc can answer: the
usual `ss | grep :80` is also true for port 8000, and `pgrep` for a process that has crashed.
"""

from ipaddress import ip_address
from shlex import quote
from typing import assert_never
from urllib.parse import urlsplit

from sandboxfile.model import Ready

ATTEMPT_S = 10  # a single attempt has no limit of its own at the service
COMM_LIMIT = 15  # bytes of a process name that the kernel keeps, proc(5)

_PORT = (
    "ready=1; for table in /proc/net/tcp /proc/net/tcp6; do [ -r $table ] || continue; "
    "while read -r slot address peer state rest; do "
    'case "$address/$state" in *:{port}/0A) ready=0;; esac; done < $table; done; [ $ready = 0 ]'
)
# $$ is left out: a check for `bash` must not find the shell that runs it. Z is a process that
# ended and was not reaped.
_PROCESS = (
    "ready=1; for process in /proc/[0-9]*; do [ $process = /proc/$$ ] && continue; "
    'comm=; read -r comm 2>/dev/null < $process/comm; [ "$comm" = {name} ] || continue; '
    "stat=; read -r stat 2>/dev/null < $process/stat; "
    'case "${{stat##*) }}" in [!ZX]*) ready=0;; esac; done; [ $ready = 0 ]'
)
_CURL = (
    "[ \"$(curl -gs -o /dev/null -w '%{{http_code}}' --max-time {limit} --url {url})\" = {status} ]"
)
# wget says the status on stderr only; the first one counts, as curl does not follow redirects.
# `timeout`, because the -T of some static busybox builds crashes.
_WGET = (
    "LC_ALL=C timeout {limit} wget -S -t 1 -O /dev/null {url} 2>&1 "
    "| {{ while read -r protocol status rest; do case $protocol in "
    'HTTP/*) [ "$status" = {status} ]; exit;; esac; done; exit 1; }}'
)
_PYTHON = (
    "import http.client as h, sys, urllib.parse as p; u = p.urlsplit(sys.argv[1]); "
    'c = {"http": h.HTTPConnection, "https": h.HTTPSConnection}[u.scheme](u.netloc, '
    "timeout=int(sys.argv[3])); "
    'c.request("GET", p.urlunsplit(("", "", u.path or "/", u.query, ""))); '
    "sys.exit(c.getresponse().status != int(sys.argv[2]))"
)
_URL = (
    "if command -v curl >/dev/null; then {curl}; elif command -v wget >/dev/null; then {wget}; "
    "elif command -v python3 >/dev/null; then python3 -c {python} {url} {status} {limit}; "
    "else echo 'ready: the image has neither curl, wget nor python3' >&2; exit 1; fi"
)
_NO_PROXY = "unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; "


def command(ready: Ready) -> str:
    """Return the check as one line of POSIX shell; a `command` is returned as it was written."""
    match ready.kind:
        case "command":
            return ready.value
        case "delay":
            return f"sleep {quote(ready.value)}"
        case "file":
            return f"test -e {quote(_not_an_option(ready.value))}"
        case "port":
            return _PORT.format(port=f"{int(ready.value):04X}")
        case "process":
            return _PROCESS.format(name=quote(_comm(ready.value)))
        case "url":
            return _url(ready.value, ready.status)
        case _:
            assert_never(ready.kind)


def _not_an_option(path: str) -> str:
    return path if path.startswith("/") else f"./{path}"


def _comm(name: str) -> str:
    return name.encode()[:COMM_LIMIT].decode(errors="ignore")


def _url(url: str, status: int) -> str:
    values = {"url": quote(url), "status": status, "limit": ATTEMPT_S}
    text = _URL.format(
        curl=_CURL.format(**values),
        wget=_WGET.format(**values),
        python=quote(_PYTHON),
        **values,
    )
    return (_NO_PROXY if _is_loopback(url) else "") + text


def _is_loopback(url: str) -> bool:
    """Tell whether a proxy set in the image has no business with this URL."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
