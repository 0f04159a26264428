"""The grammars of what lies elsewhere: images, templates at a target, services, registries."""

import re
from urllib.parse import SplitResult, urlsplit

from sandboxfile.config.document import quoted
from sandboxfile.config.problems import Fault
from sandboxfile.config.values import invisible
from sandboxfile.reference import ImageReference, is_authority

_HOST = (
    r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_REGISTRY = (
    r"(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
)
_REMOTE = r"(?:[a-z0-9][a-z0-9_-]*/)?[a-z0-9][a-z0-9_-]{0,127}(?::[a-z0-9._-]{1,128})?"


def image(text: str) -> Fault | None:
    """Check the reference of a container image."""
    try:
        ImageReference.parse(text)
    except ValueError as error:
        hint = "" if text else "write for instance `python:3.12-slim`"
        return Fault(f"this is not an image reference: {error}", hint)
    return None


def remote(text: str) -> Fault | None:
    """Check `name` or `name:tag` of a template at a target."""
    if re.fullmatch(_REMOTE, text):
        return None
    return Fault(f"{quoted(text)} is not a template at a target", "write `name` or `name:tag`")


def url(text: str) -> Fault | None:
    """Check an http or https URL without credentials, query and fragment."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return Fault(f"{quoted(text)} is not a URL", "write `https://host:port/path`")
    if "@" in parts.netloc:
        shown = f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}"
        hint = "credentials are never in this file"
        return Fault(f"the URL `{shown}` contains credentials", hint)
    if parts.scheme not in ("http", "https") or not is_authority(parts.netloc):
        return Fault(f"{quoted(text)} is not a URL", "write `https://host:port/path`")
    return _url_rest(text)


def _url_rest(text: str) -> Fault | None:
    if fault := invisible(text):
        return fault
    if " " in text:
        return Fault(f"{quoted(text)} contains a space", "write it as %20")
    return None


def service_url(text: str) -> Fault | None:
    """Check the address of a service: a URL without query and fragment."""
    if fault := url(text):
        return fault
    parts: SplitResult = urlsplit(text)
    if parts.query or parts.fragment:
        return Fault(f"{quoted(text)} has a query or a fragment", "write the address alone")
    return None


def domain(text: str) -> Fault | None:
    """Check a domain of the service."""
    if re.fullmatch(_HOST, text):
        return None
    bare = text.partition("://")[2] or text
    bare = bare.partition("/")[0].rpartition("@")[2].lower()
    if "@" in text:
        return Fault("this domain contains credentials", f"write `{bare}`")
    if "://" in text or "/" in text:
        hint = f"write `{bare.removeprefix('api.')}`, or use `api_url`"
        return Fault(f"{quoted(text)} is a URL, not a domain", hint)
    hint = f"write `{bare}`" if re.fullmatch(_HOST, bare) else "write `host.example.com`"
    return Fault(f"{quoted(text)} is not a domain", hint)


def registry(text: str) -> Fault | None:
    """Check `host[:port][/repository]` of a registry."""
    if "@" in text:
        if "sha256:" in text:
            return Fault(f"{quoted(text)} has a digest", "write registry and repository alone")
        hint = "log in with `docker login`, credentials are never in this file"
        return Fault("this registry contains credentials", hint)
    if "://" in text:
        return Fault(f"{quoted(text)} is a URL", f"write `{text.partition('://')[2].rstrip('/')}`")
    host = text.partition("/")[0]
    if re.fullmatch(_REGISTRY, text):
        if not is_authority(host):
            message = f"{quoted(host)} is not a host, or a host and a port from 1 to 65535"
            return Fault(message, "write `host:port/repository`", host)
        if "." in host or ":" in host or host == "localhost":
            return None
        hint = f"write `docker.io/{text}` for Docker Hub"
        return Fault(f"{quoted(text)} names no registry", hint)
    bare = text.rstrip("/").lower()
    head, _, last = bare.rpartition("/")
    bare = f"{head}/{last.partition(':')[0]}" if head else bare
    message = f"{quoted(text)} is not a registry and a repository"
    return Fault(message, f"write `{bare}`" if re.fullmatch(_REGISTRY, bare) else "")
