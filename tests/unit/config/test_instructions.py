"""Sugar in its fixed order, steps in theirs, and accounts before what they own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.model import Account, Copy, Env, Install, InstallProject, Run, Template, Workdir

Read = Callable[[str], Template]


def kinds(template: Template) -> list[str]:
    return [
        f"{type(each).__name__}:{each.manager}"
        if isinstance(each, Install | InstallProject)
        else type(each).__name__
        for each in template.instructions
    ]


SUGAR = """\
workdir: /home/user/app
run: [make]
files: [app/ -> /app/]
packages: {bun: [e], uv: [d], npm: [c], pip: [b], apt: [git]}
user: user
env: {A: b}
"""


def test_sugar_has_one_order_however_it_is_written(template: Read) -> None:
    order = ["Env", "Install:apt", "Account", "Install:pip", "Install:npm", "Install:uv",
             "Install:bun", "Copy", "Run", "Workdir"]  # fmt: skip
    assert kinds(template(SUGAR)) == order
    reversed_lines = "".join(reversed(SUGAR.splitlines(keepends=True)))
    assert kinds(template(reversed_lines)) == order


def test_steps_keep_their_order_behind_the_accounts(root: Path, template: Read) -> None:
    (root / "package.json").touch()
    read = template(
        "user: user\nworkdir: /w\nsteps:\n"
        "  - run: one\n  - apt: [git]\n  - env: {A: b}\n  - workdir: /x\n"
        "  - npm: {project: .}\n  - {run: two, user: other}\n"
        "  - copy: a -> /b\n  - copy: {from: c, to: /d, owner: third}\n"
    )
    assert kinds(read) == ["Account", "Account", "Account", "Run", "Install:apt", "Env", "Workdir",
                           "InstallProject:npm", "Run", "Copy", "Copy", "Workdir"]  # fmt: skip
    accounts = [each.user for each in read.instructions if isinstance(each, Account)]
    assert accounts == ["user", "other", "third"]
    workdirs = [(each.path, each.owner) for each in read.instructions if isinstance(each, Workdir)]
    assert workdirs == [("/x", "user"), ("/w", "user")]


def test_no_account_is_made_for_root_and_for_numbers(template: Read) -> None:
    read = template(
        'user: "1000"\n'
        "files: [{from: a, to: /a, owner: 'root:www'}, {from: a, to: /a, owner: '7:7'}]\n"
        "run: [{run: x, user: root}, y]\n"
    )
    assert kinds(read) == ["Copy", "Copy", "Run", "Run"]


def test_an_account_has_the_place_that_names_it_first(template: Read) -> None:
    read = template("files:\n  - {from: a, to: /a, owner: www}\nrun:\n  - {run: x, user: www}\n")
    assert [(e.user, e.at.line) for e in read.instructions if isinstance(e, Account)] == [
        ("www", 4)
    ]
    read = template("user: www\nrun:\n  - {run: x, user: www}\n")
    assert [(e.user, e.at.line) for e in read.instructions if isinstance(e, Account)] == [
        ("www", 3)
    ]


def test_a_copy_as_text_and_as_map(root: Path, template: Read) -> None:
    read = template(
        "files:\n  - app/ -> /app/\n  - {from: [a, b*], to: /c/, owner: 'u:g', mode: '0755', "
        "ignore: ['*.pyc']}\n  - {from: d, to: /e}\n"
    )
    copies = [each for each in read.instructions if isinstance(each, Copy)]
    assert [(c.sources, c.to, c.owner, c.mode, c.ignore, c.root) for c in copies] == [
        (("app/",), "/app/", None, None, (), root),
        (("a", "b*"), "/c/", "u:g", "0755", ("*.pyc",), root),
        (("d",), "/e", None, None, (), root),
    ]
    assert [str(c.at) for c in copies] == [f"novita.yaml:{line}:5" for line in (4, 5, 6)]


def test_a_run_as_text_and_as_map(template: Read) -> None:
    text = template(
        "secrets: {npm: {env: NPM_TOKEN}, pip: {file: a}}\n"
        "run:\n  - make\n  - run: |\n      one\n      two\n"
        "    user: root\n    secrets: [npm, pip]\n"
    )
    runs = [each for each in text.instructions if isinstance(each, Run)]
    assert [(r.command, r.user, r.secrets) for r in runs] == [
        ("make", None, ()),
        ("one\ntwo", "root", ("npm", "pip")),
    ]
    assert [str(r.at) for r in runs] == ["novita.yaml:5:5", "novita.yaml:6:10"]


def test_a_doubled_dollar_reaches_the_shell_as_one(template: Read) -> None:
    read = template("run: ['echo $$ $HOME']\nenv: {A: 'x$$y'}\n")
    assert [e.command for e in read.instructions if isinstance(e, Run)] == ["echo $ $HOME"]
    assert [dict(e.values) for e in read.instructions if isinstance(e, Env)] == [{"A": "x$y"}]


def test_empty_sugar_makes_nothing(template: Read) -> None:
    assert template("env: {}\nfiles: []\nrun: []\npackages: {apt: []}\n").instructions == ()
    assert template("env:\nfiles:\nrun:\npackages: {apt: }\nsteps:\n").instructions == ()


@pytest.mark.parametrize("manager", ["apt", "pip", "npm", "uv", "bun"])
def test_packages_keep_their_written_order(template: Read, manager: str) -> None:
    read = template(f"packages: {{{manager}: [zsh, bash, curl]}}")
    install = read.instructions[0]
    assert isinstance(install, Install)
    assert (install.manager, install.packages) == (manager, ("zsh", "bash", "curl"))
    assert str(install.at) == "novita.yaml:3:12"
