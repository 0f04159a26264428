"""The grammars of numbers and of what has a unit: a number or text in, a Fault out (`values`)."""

import re

from sandboxfile.config.document import quoted
from sandboxfile.config.problems import Fault

CPU_LIMIT = 32  # docs/protocol.md, 6
MEMORY_LEAST = 128  # MiB
MEMORY_LIMIT = 1 << 20  # MiB: a slip of the pen, since the service gives far less
DELAY_LIMIT = 600  # seconds after which the service stops waiting for readiness
_MEMORY = r"([0-9]{1,9})(MiB|GiB)"
_LOOSE_MEMORY = r"([0-9]{1,9}) *([KMGT]?i?B?|[kmgt]i?b?)"
_DELAY = r"([0-9]{1,6})(ms|s|m)"


def is_whole(text: str) -> bool:
    """Say whether a text is a whole number as it is written in YAML."""
    return re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})", text) is not None


def cpu(number: int) -> Fault | None:
    """Check a number of CPUs: 1, or even, up to 32."""
    if number == 1 or (number % 2 == 0 and 0 < number <= CPU_LIMIT):
        return None
    if number < 1:
        hint = "write 1 or 2"
    elif number > CPU_LIMIT:
        hint = f"write {CPU_LIMIT}"
    else:
        hint = f"write {number - 1} or {number + 1}"
        hint = "write 2 or 4" if number == 3 else hint  # noqa: PLR2004 - its neighbours
    return Fault(f"`cpu` is 1 or an even number up to {CPU_LIMIT}, not {number}", hint)


def memory(number: int) -> Fault | None:
    """Check a memory size in MiB: even, at least 128, at most a tebibyte."""
    if number < MEMORY_LEAST:
        hint = f"write {MEMORY_LEAST}"
        return Fault(f"`memory` is at least {MEMORY_LEAST} MiB, not {number}", hint)
    if number > MEMORY_LIMIT:
        message = f"`memory` is at most {MEMORY_LIMIT} MiB (1 TiB), not {number}"
        return Fault(message, "write a size that the target gives, like `4GiB`")
    if number % 2:
        hint = f"write {number - 1} or {number + 1}"
        return Fault(f"`memory` is an even number of MiB, not {number}", hint)
    return None


def mebibytes(text: str) -> int | Fault:
    """Read a memory size with its unit as MiB."""
    if match := re.fullmatch(_MEMORY, text):
        return int(match[1]) * (1024 if match[2] == "GiB" else 1)
    message = f"{quoted(text)} is not a size of memory"
    if match := re.fullmatch(_LOOSE_MEMORY, text):
        unit = match[2][:1].upper()
        if unit in ("M", "G"):
            return Fault(message, f"write `{match[1]}{unit}iB`")
        if not unit:
            return Fault(message, f"write {match[1]} without quotes, or `{match[1]}MiB`")
    return Fault(message, "write a number of MiB, or a size like `512MiB` or `2GiB`")


def seconds(text: str) -> int | Fault:
    """Read a delay with its unit as whole seconds."""
    match = re.fullmatch(_DELAY, text)
    if match is None:
        hint = f"write `{text}s`" if text.isascii() and text.isdigit() else "write `20s` or `2m`"
        return Fault(f"{quoted(text)} is not a delay", hint)
    number = int(match[1]) * {"ms": 1, "s": 1000, "m": 60_000}[match[2]]
    if number % 1000 or not number:
        least = max(1, round(number / 1000))
        return Fault(f"{quoted(text)} is not a whole number of seconds", f"write `{least}s`")
    if number >= DELAY_LIMIT * 1000:
        hint = "the service waits 10 minutes: check for something that happens earlier"
        return Fault(f"{quoted(text)} is too long a delay", hint)
    return number // 1000


def port(number: int) -> Fault | None:
    """Check a TCP port."""
    if 0 < number <= 65535:  # noqa: PLR2004 - 16 bits
        return None
    return Fault(f"{number} is not a port", "ports are 1 to 65535")
