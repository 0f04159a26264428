"""What README and docs/ say is so."""

import ast
import json
import re
import shlex
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import commandline, errors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sandboxfile"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")])
REFERENCE = (ROOT / "docs/reference.md").read_text()

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def section(title: str) -> str:
    """Return a section of the reference, without its heading."""
    pattern = rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, REFERENCE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def rows(title: str) -> dict[str, str]:
    """Return the tables of a section: the first cell of each row, and the whole row."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1].strip() for line in lines]
    return {
        cell: line
        for cell, line in zip(cells, lines, strict=True)
        if not re.fullmatch(r"-+|[A-Z].*", cell)
    }


# --- the reference is complete ---------------------------------------------------------------


def test_exit_codes_are_those_of_the_code() -> None:
    codes = {value for name, value in vars(errors).items() if name.isupper()}
    raised = {
        each.exit_code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.SandboxfileError)
    }

    assert {int(cell) for cell in rows("Exit codes")} == codes
    assert raised <= codes


def test_the_table_of_commands_is_that_of_the_program() -> None:
    documented = [cell.strip("`").split(" ")[0] for cell in rows("Commands")]

    assert documented == list(commandline.COMMANDS)


def options(command: str) -> set[str]:
    """Return the long options of a command that are its own."""
    commandline.Parser.environ = {}
    parser = commandline.Parser(prog=command)
    __import__(f"sandboxfile.commands.{command}", fromlist=["x"]).add_arguments(parser)
    found = {name for action in parser._actions for name in action.option_strings}
    return {name for name in found if name.startswith("--")} - {"--help"}


@pytest.mark.parametrize("command", commandline.COMMANDS)
def test_every_option_of_a_command_is_in_its_row(command: str) -> None:
    (row,) = [line for cell, line in rows("Commands").items() if cell[1:].startswith(command)]
    documented = set(re.findall(r"--[a-z][a-z0-9-]*", row))
    if command == "build":
        documented |= {"--jobs"} if "`-j N`" in row else set()

    assert documented == options(command)


def test_every_global_option_is_named() -> None:
    parser = commandline.parser()
    names = {name for action in parser._actions for name in action.option_strings}
    said = section("Commands")

    for name in names - {"-h", "--help", "--version"}:
        short = {"--file": "-f", "--directory": "-C", "--quiet": "-q", "--verbose": "-v"}
        assert re.search(rf"(?<![-\w]){short.get(name, name)}\b", said), name


def keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for each in schema.values():
            yield from keys(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from keys(each)


def test_every_key_of_the_schema_is_named() -> None:
    schema = json.loads((PACKAGE / "schemas/novita-1.schema.json").read_text())
    said = section("`novita.yaml`")

    missing = {key for key in keys(schema) if not re.search(rf"(?<![\w.]){key}\b", said)}
    assert missing == set()


def _variables() -> set[str]:
    """Return the variables that the code reads by name from an environment."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="get", value=owner), args=[key, *_]):
                    pass
                case ast.Subscript(value=owner, slice=key):
                    pass
                case ast.Compare(left=key, ops=[ast.In()], comparators=[owner]):
                    pass
                case _:
                    continue
            if ast.unparse(owner).endswith("environ"):
                found |= _names(key)
    return found


def _names(key: ast.AST) -> set[str]:
    match key:
        case ast.Constant(value=str(name)):
            return {name}
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(end))]):
            return {f"NOVITA{end}", f"E2B{end}"}  # of the account
        case _:
            return set()


def test_every_variable_that_is_read_is_documented() -> None:
    found = _variables()
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", section("Environment")))

    assert {"NOVITA_API_KEY", "E2B_ACCESS_TOKEN", "NOVITA_DOMAIN", "DOCKER_HOST"} <= found
    assert found - {"HOME", "PATH"} - documented == set()


def test_every_variable_that_is_documented_is_read() -> None:
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    by_option = {
        "SANDBOXFILE_" + name[2:].replace("-", "_").upper()
        for action in commandline.parser()._actions
        for name in action.option_strings
    }

    for name in re.findall(r"`([A-Z][A-Z0-9]+_[A-Z0-9_]+)`", section("Environment")):
        assert name in source or name in by_option or name in _variables(), name


# --- what the code cites ---------------------------------------------------------------------

PROTOCOL = "docs/protocol.md"
_NUMBER = r"\d+(?:\.\d+)?"


def _words(path: Path) -> str:
    """Return the comments and docstrings of a module, one to a line."""
    with path.open("rb") as file:
        tokens = [each.string for each in tokenize.tokenize(file.readline)
                  if each.type in {tokenize.COMMENT, tokenize.STRING}]  # fmt: skip
    return "\n".join(" ".join(text.split()) for text in tokens)


def _cited(words: str) -> set[str]:
    """Return the sections of the protocol that are cited, in short too where a module says so."""
    long = re.findall(rf"{re.escape(PROTOCOL)}, ((?:{_NUMBER}(?: and |, (?=\d))?)+)", words)
    short = []
    if re.search(rf"(?i)(?:numbers in brackets|sections named here) are .*{PROTOCOL}", words):
        short = re.findall(rf"\(({_NUMBER})\)|\bsection ({_NUMBER})", words)
    return {number for found in [*long, *map("".join, short)]
            for number in re.findall(_NUMBER, found)}  # fmt: skip


def test_sections_of_the_protocol_that_the_code_cites_are_there() -> None:
    there = set(re.findall(rf"^##+ ({_NUMBER})\b", (ROOT / PROTOCOL).read_text(), re.MULTILINE))
    cited = {path: _cited(_words(path)) for path in PACKAGE.rglob("*.py")}

    assert {"1.5", "2.6", "3.10", "4", "5.3", "6", "7"} <= set().union(*cited.values())
    assert {path: sections - there for path, sections in cited.items() if sections - there} == {}


def test_comments_cite_only_documents_that_are_here() -> None:
    elsewhere = r"protocol reference|\(reference, \d|\(?\b(?:design|reliability),? (?:section )?\d"
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        if path == Path(__file__):
            continue
        words = _words(path)
        assert not re.search(elsewhere, words, re.IGNORECASE), path
        for name in re.findall(r"\bdocs/[\w-]+\.md", words):
            assert (ROOT / name).is_file(), (path, name)


# --- what can be followed and typed ----------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            assert link.startswith("https://")
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), link


def blocks(page: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """Return the commands of console blocks, and those of `code` in the text."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    lines = [line[2:] for line in lines if line.startswith("$ ")]
    lines += [line.split("run:")[1] for b in blocks(page, "yaml") for line in b.splitlines()
              if "- run: sandboxfile" in line]  # fmt: skip
    lines += re.findall(r"`(sandboxfile [^`]+)`", page.read_text())
    for line in lines:
        words = shlex.split(line, comments=True)
        if words and words[0] == "sandboxfile":
            yield words[1:]


@pages
def test_commands_can_be_typed_as_they_stand(page: Path) -> None:
    commandline.Parser.environ = {}
    for words in commands(page):
        argv = words[: words.index(">>")] if ">>" in words else words
        if len(argv) > 1:
            commandline.parse(argv)
        else:  # a mention, perhaps without what it needs
            assert argv[0] in commandline.COMMANDS or argv[0].startswith("--")


def test_commands_are_found_in_the_pages() -> None:
    found = [words for page in PAGES for words in commands(page)]

    assert ["build", "--target", "prod"] in found
    assert ["serve", "--port", "3000"] in found
    assert len(found) > 10


@pages
def test_scripts_of_the_checkout_are_there(page: Path) -> None:
    for block in blocks(page, "console"):
        for script in re.findall(r"\$ (?:sh|bash) ([\w./-]+)", block):
            assert (ROOT / script).is_file(), script


@pages
def test_configurations_in_the_pages_are_valid(page: Path, tmp_path: Path) -> None:
    from sandboxfile.config import load

    for number, block in enumerate(blocks(page, "yaml")):
        if block.startswith(("version:", "# novita.yaml")):
            path = tmp_path / str(number) / "novita.yaml"
            path.parent.mkdir()
            path.write_text(block)
            assert load.load(path).templates


@pages
def test_paths_in_the_pages_are_there(page: Path) -> None:
    """Paths in code spans that name a module or a document of this repository."""
    for name in re.findall(r"`((?:tests|docs|schemas|dev|examples|sandboxfile)/[\w./-]*)`",
                           page.read_text()):  # fmt: skip
        assert (ROOT / name).exists(), name


def test_modules_in_contributing_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    names = re.findall(r"`([\w/]+(?:\.py|/))`", table)

    assert len(names) > 10
    for name in names:
        assert (PACKAGE / name).exists(), name
