"""Locks of several machines and branches, joined by what the files of the checkout are now."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxfile import lockfile
from sandboxfile.lockfile import Entry, Lock
from tests.fakes import built
from tests.fakes.shell import User

CONFIG = """\
version: 1
targets: {{prod: {{provider: novita, domain: example.com, builder: remote}}}}
default_target: prod
templates:
  python: {{base: "debian:12"}}
  api: {{base: {{template: python}}, run: [{api}]}}
  web: {{base: "debian:12", run: [{web}]}}
"""
PIN = "docker.io/library/debian:12 linux/amd64"
OTHER = "sha256:" + "e" * 64


def config(api: str = "a", web: str = "w") -> str:
    return CONFIG.format(api=api, web=web)


class Branches:
    """A repository with a lock, in which templates are built on branches."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.git("init", "-qb", "main")
        self.builds = 0
        self.commit(config())

    def git(self, *argv: str, code: int = 0) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *argv]
        done = self.user.process(command)
        assert done.returncode == code, done.stderr
        return str(done.stdout)

    def build(self, text: str, resolved: dict[str, str] | None = None) -> Lock:
        """Write what a build of everything would leave, with builds of its own."""
        self.user.write("novita.yaml", text)
        path = self.lock
        before = lockfile.read(path)
        built.pretend(self.user.root, target="prod", resolved=resolved)
        after = lockfile.read(path)
        self.builds += 1
        for name, entry in after.targets["prod"].items():
            old = before.entry("prod", name)
            is_same = old is not None and old.template_key == entry.template_key
            new = old if is_same else replace(entry, build_id=f"build-{self.builds}-{name}")
            assert new is not None
            after = after.with_entry("prod", name, new)
        lockfile.write(path, after)
        return after

    def commit(self, text: str, resolved: dict[str, str] | None = None) -> Lock:
        made = self.build(text, resolved)
        self.git("add", "novita.yaml", "novita.lock")
        self.git("commit", "-qm", "build")
        return made

    @property
    def lock(self) -> Path:
        return self.user.root / "novita.lock"

    def entry(self, name: str) -> Entry:
        found = lockfile.read(self.lock).entry("prod", name)
        assert found is not None
        return found

    def conflict(self, ours: str, theirs: str, *, style: str = "merge") -> tuple[Lock, Lock]:
        """Build on two branches and merge them; git is left with a conflict."""
        self.git("checkout", "-qb", "theirs")
        other = self.commit(theirs)
        self.git("checkout", "-q", "main")
        mine = self.commit(ours)
        self.git("-c", f"merge.conflictStyle={style}", "merge", "theirs", code=1)
        assert "<<<<<<<" in self.lock.read_text()
        return mine, other


@pytest.fixture
def branches(user: User) -> Branches:
    return Branches(user)


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_a_conflict_is_solved_by_what_the_merged_files_are(branches: Branches, style: str) -> None:
    user = branches.user
    mine, other = branches.conflict(config(api="x"), config(api="y", web="v"), style=style)
    user.write("novita.yaml", config(api="y", web="v"))
    ran = user.run("lock", "--merge")
    assert (ran.code, ran.out) == (0, "")
    assert lockfile.read(branches.lock) == other != mine
    assert "prod/api: build build-2-api: its key is that of the files here\n" in ran.err
    assert "novita.lock: 3 results and 1 base from 2 locks\n" in ran.err
    again = user.run("lock", "--merge")
    assert (again.code, lockfile.read(branches.lock)) == (0, other)
    branches.git("add", "novita.lock")
    assert user.run("lock", "--merge").err == "novita.lock has no conflict\n"
    quiet = user.run("lock", "--merge", "--json", "-q")
    assert quiet.err == ""
    assert quiet.data == {"templates": [], "resolved": dict(other.resolved)}
    assert user.run("lock", "--check").code == 0


def test_each_template_is_taken_from_the_side_that_built_it(branches: Branches) -> None:
    mine, other = branches.conflict(config(api="x", web="v"), config(api="y", web="u"))
    branches.user.write("novita.yaml", config(api="x", web="u"))
    ran = branches.user.run("lock", "--merge", "--json")
    assert ran.code == 0
    assert [(each["name"], each["up_to_date"]) for each in ran.data["templates"]] == [
        ("api", True),
        ("web", True),
    ]
    found = lockfile.read(branches.lock)
    assert found.entry("prod", "api") == mine.entry("prod", "api")
    assert found.entry("prod", "web") == other.entry("prod", "web")


def test_what_nobody_built_is_kept_stale(branches: Branches) -> None:
    branches.conflict(config(api="x"), config(api="y"))
    branches.user.write("novita.yaml", config(api="z"))
    ran = branches.user.run("lock", "--merge", "-q")
    assert (ran.code, ran.err) == (0, "")
    ran = branches.user.run("lock", "--check")
    assert ran.code == 2
    assert "api     build" in ran.out
    assert ran.err.startswith("target prod: ")
    assert branches.user.run("lock", "--check", "api").code == 2
    told = branches.user.run("lock", "--check", "--json", "api")
    assert told.code == 2
    assert {row["name"]: row["action"] for row in told.data["templates"]}["api"] == "build"
    assert {row["target"] for row in told.data["templates"]} == {"prod"}
    ran = branches.user.run("lock", "--check", "w*")
    assert (ran.code, "api" in ran.out) == (0, False), "who builds a part may check a part"


SHARED = """\
version: 1
targets: {prod: {provider: novita, domain: example.com, builder: remote}}
default_target: prod
templates:
  common: {base: "debian:12", env: {A: b}}
  api: {extends: common, run: [a]}
  later: {base: "debian:12", run: [l]}
"""


@pytest.mark.parametrize(
    ("groups", "stale"),
    [
        ("groups: {default: [api]}", []),
        ("groups: {default: [api], base: [common]}", ["common"]),
        ("groups: {all: [api]}", ["common"]),
        ("", ["common"]),
    ],
)
def test_a_template_that_is_only_extended_need_not_be_in_the_lock(
    user: User, groups: str, stale: list[str]
) -> None:
    user.write("novita.yaml", f"{SHARED}{groups}\n")
    built.pretend(user.root, target="prod")
    path = user.root / "novita.lock"
    lock = lockfile.read(path)
    entries = {"prod": {n: e for n, e in lock.targets["prod"].items() if n != "common"}}
    lockfile.write(path, replace(lock, targets=entries))

    ran = user.run("lock", "--check", "--json")

    assert ran.stale == stale
    assert ran.code == (2 if stale else 0)
    assert user.run("lock", "--check", "common").code == 2, "whoever names it is told of it"


def test_a_template_that_is_extended_is_checked_once_it_was_built(user: User) -> None:
    user.write("novita.yaml", f"{SHARED}groups: {{default: [api]}}\n")
    built.pretend(user.root, target="prod")
    user.write("novita.yaml", f"{SHARED.replace('A: b', 'A: c')}groups: {{default: [api]}}\n")

    ran = user.run("lock", "--check", "--json")

    assert (ran.code, ran.stale) == (2, ["common", "api"])


def test_what_is_in_no_group_and_extended_by_none_is_to_be_in_the_lock(user: User) -> None:
    user.write("novita.yaml", f"{SHARED}groups: {{default: [api]}}\n")
    built.pretend(user.root, target="prod")
    path = user.root / "novita.lock"
    lock = lockfile.read(path)
    entries = {"prod": {n: e for n, e in lock.targets["prod"].items() if n != "later"}}
    lockfile.write(path, replace(lock, targets=entries))

    assert user.run("lock", "--check").code == 2


def test_a_conflict_that_a_tool_has_cleared_is_taken_from_git(branches: Branches) -> None:
    _, other = branches.conflict(config(api="x"), config(api="y"))
    branches.user.write("novita.yaml", config(api="y"))
    branches.git("checkout", "--ours", "novita.lock")
    assert branches.user.run("lock", "--merge").code == 0
    assert lockfile.read(branches.lock) == other


def test_a_base_on_which_no_build_decides_is_left_to_people(branches: Branches) -> None:
    user = branches.user
    branches.git("checkout", "-qb", "theirs")
    branches.commit(config(api="y", web="v"), {PIN: OTHER})
    branches.git("checkout", "-q", "main")
    branches.git("rm", "-q", "--cached", "novita.lock")
    branches.commit(config(api="x"), {PIN: "sha256:" + "f" * 64})
    branches.git("merge", "theirs", code=1)
    text = config(api="z", web="z").replace('python: {base: "debian:12"}', PYTHON)
    user.write("novita.yaml", text)
    before = branches.lock.read_text()
    ran = user.run("lock", "--merge")
    assert (ran.code, branches.lock.read_text()) == (3, before)
    assert f"the locks differ on `{PIN}`, and no build in them was made with either" in ran.err
    assert "delete all lines but one of these bases in `novita.lock`" in ran.err
    keep = [line for line in before.splitlines(keepends=True) if "f" * 64 not in line]
    branches.lock.write_text("".join(keep))
    assert user.run("lock", "--merge").code == 0
    assert lockfile.read(branches.lock).resolved == {PIN: OTHER}


PYTHON = 'python: {base: "debian:12", run: [z]}'


def test_locks_of_shards_are_joined(branches: Branches) -> None:
    user = branches.user
    start = branches.lock.read_bytes()
    text = config(api="x", web="y")
    whole = branches.build(text)
    old = lockfile.parse(start.decode(), "novita.lock")
    for name in ("api", "web"):
        (user.root / name).mkdir()
        entry = whole.entry("prod", name)
        assert entry is not None
        lockfile.write(user.root / name / "novita.lock", old.with_entry("prod", name, entry))
    branches.lock.write_bytes(start)
    argv = ["lock", "--merge", "api/novita.lock", "web/novita.lock"]
    ran = user.run(*argv, "--output", "joined.lock")
    assert (ran.code, ran.err) == (0, "joined.lock: 3 results and 1 base from 2 locks\n")
    assert lockfile.read(user.root / "joined.lock") == whole
    assert branches.lock.read_bytes() == start
    assert user.run(*argv).code == 0
    assert branches.lock.read_bytes() == (user.root / "joined.lock").read_bytes()
    # Of the same result nothing is written anew.
    stamp = branches.lock.stat().st_mtime_ns
    assert user.run(*argv).code == 0
    assert branches.lock.stat().st_mtime_ns == stamp
    # One after the other is the same.
    branches.lock.write_bytes(start)
    for name in ("api", "web"):
        assert user.run("lock", "--merge", f"{name}/novita.lock").code == 0
    assert lockfile.read(branches.lock) == whole


def test_git_merges_by_itself_what_one_side_has_changed(branches: Branches) -> None:
    user = branches.user
    user.write(".gitattributes", "novita.lock merge=sandboxfile\n")
    program = f"{sys.executable} -m sandboxfile lock --merge"
    branches.git("config", "merge.sandboxfile.driver", f"{program} --base %O -o %A %A %B")
    branches.git("checkout", "-qb", "theirs")
    branches.commit(config(web="v"))
    branches.git("checkout", "-q", "main")
    branches.commit(config(api="x"))
    branches.git("merge", "-q", "-X", "ours", "theirs")
    assert branches.entry("api").build_id == "build-3-api"
    assert branches.entry("web").build_id == "build-2-web"
    # What both have changed waits until the files are merged.
    branches.git("checkout", "-qb", "others", "HEAD~2")
    other = branches.commit(config(api="y"))
    branches.git("checkout", "-q", "main")
    branches.git("merge", "others", code=1)
    assert "<<<<" not in branches.lock.read_text()
    user.write("novita.yaml", config(api="y", web="v"))
    assert user.run("lock", "--merge").code == 0
    assert branches.entry("api") == other.entry("prod", "api")
    assert branches.entry("web").build_id == "build-2-web"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--prune", "--output", "x"], 64, "`--base` and `--output` go with `--merge`"),
        ([], 64, "`lock` needs one of `--merge`, `--upgrade`, `--check` and `--prune`"),
        (
            ["--merge", "--check"],
            64,
            "`lock` needs one of `--merge`, `--upgrade`, `--check` and `--prune`",
        ),
        (["--check", "nobody"], 64, "no template is called `nobody`"),
        (["--check", "--output", "a"], 64, "`--base` and `--output` go with `--merge`"),
        (["--merge", "--base", "a"], 64, "`--base` is for git"),
        (["--merge", "absent.lock"], 64, "there is no lock `absent.lock`"),
        (["--merge", "novita.yaml"], 3, "novita.yaml:2:28: error: a map is expected"),
        (["--merge", "file/x.lock"], 3, "file/x.lock:1:1: error: the lock cannot be read: not a"),
        (["--merge", "n" * 300], 3, "the lock cannot be read: file name too long"),
        (["--merge", "novita.lock", "-o", "novita.yaml"], 64, "`--output novita.yaml`: this file"),
        (["--merge", "--output", "novita.yaml"], 64, "there already, and is no lock\nhint: name"),
        (["--merge", "newer.lock", "-o", "newer.lock"], 3, "the lock has format 9; sandboxfile"),
        (["--merge", "novita.lock", "-o", "file/x"], 3, "the lock cannot be read: not a directory"),
        (["--merge", "novita.lock", "-o", "x", "--base", "absent"], 64, "there is no lock `absent"),
        (
            ["--merge", "novita.lock", "--output", "novita.yaml", "--base", "novita.lock"],
            64,
            "`--output novita.yaml`: this file is there already, and is no lock",
        ),
    ],
)
def test_what_cannot_be_merged_is_said(
    branches: Branches, argv: list[str], code: int, said: str
) -> None:
    branches.user.write("file", "")
    branches.user.write("newer.lock", "version: 9\n")
    before = {path: path.read_bytes() for path in branches.user.root.iterdir() if path.is_file()}
    ran = branches.user.run("lock", *argv)
    assert ran.code == code
    assert said in ran.err
    after = {path: path.read_bytes() for path in branches.user.root.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("name", "text"),
    [("novita.yaml", ""), ("latin.lock", "\udcff"), ("x.lock", "a: [\nb: {"), ("directory", None)],
)
def test_what_is_named_and_no_lock_is_not_to_be_removed(
    branches: Branches, name: str, text: str | None
) -> None:
    if text is None:
        (branches.user.root / name).mkdir()
    elif text:
        (branches.user.root / name).write_text(text, errors="surrogateescape")
    ran = branches.user.run("lock", "--merge", name)
    assert (ran.code, ran.err.count("error: ")) == (3, 1)
    assert ran.err.startswith(f"{name}:")
    assert "this is no lock that sandboxfile has written: name another file" in ran.err
    assert "remove" not in ran.err


def test_a_lock_that_is_named_may_be_written_over_and_an_empty_file(branches: Branches) -> None:
    user = branches.user
    whole = branches.lock.read_text()
    conflict = f"<<<<<<< a\n{whole}=======\n{whole}>>>>>>> b\n"
    for text in ("", "version: 1\n", conflict):
        user.write("joined.lock", text)
        ran = user.run("lock", "--merge", "novita.lock", "--output", "joined.lock")
        assert (ran.code, (user.root / "joined.lock").read_text()) == (0, whole)
    conflict = "<<<<<<< a\nmine\n=======\nyours\n>>>>>>> b\n"
    user.write("notes.md", conflict)
    ran = user.run("lock", "--merge", "novita.lock", "--output", "notes.md")
    assert (ran.code, (user.root / "notes.md").read_text()) == (64, conflict)


def test_a_lock_that_both_sides_have_added_has_no_base(branches: Branches) -> None:
    user, whole = branches.user, branches.lock.read_text()
    user.write("base", "")
    argv = ("lock", "--merge", "--base", "base", "-o", "novita.lock", "novita.lock", "novita.lock")
    ran = user.run(*argv, "--json")
    assert (ran.code, branches.lock.read_text()) == (0, whole)
    assert ran.data == {"templates": [], "resolved": dict(lockfile.read(branches.lock).resolved)}


def test_a_lock_of_another_format_has_more_than_no_conflict(branches: Branches) -> None:
    branches.lock.write_text("version: 2\n")
    ran = branches.user.run("lock", "--merge")
    assert (ran.code, branches.lock.read_text()) == (3, "version: 2\n")
    assert "the lock has format 2" in ran.err


def test_a_lock_of_one_machine_does_not_get_into_the_shared_one(branches: Branches) -> None:
    user, before = branches.user, branches.lock.read_bytes()
    name = f"{lockfile.ENGINE_PREFIX}docker.io/library/mine:dev linux/amd64"
    image = f"sha256:{'0' * 64}"
    for file in ("other/novita.local.lock", "renamed.lock"):
        path = user.write(file, "")
        path.unlink()
        lockfile.update(path, lambda old: old.with_resolved({name: image}))

        ran = user.run("lock", "--merge", file)

        assert (ran.code, branches.lock.read_bytes()) == (3, before)
        assert f"{file}:1:1: error: this lock is about one machine" in ran.err
    merge = ("lock", "--merge", "other/novita.local.lock", "--output", "novita.local.lock")
    assert user.run(*merge).code == 0
    assert dict(lockfile.read(user.root / "novita.local.lock").resolved)[name] == image


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<<<<<<< HEAD\nversion: 1\n", "novita.lock:1:1: error: the last conflict does not end"),
        ("<<<<<<< a\nversion: 2\n=======\nversion: 1\n>>>>>>> b\n", "the lock has format 2"),
    ],
)
def test_a_file_that_is_no_lock_with_its_marks_is_refused(
    branches: Branches, text: str, said: str
) -> None:
    branches.lock.write_text(text)
    ran = branches.user.run("lock", "--merge")
    assert (ran.code, branches.lock.read_text()) == (3, text)
    assert said in ran.err


def test_without_git_the_marks_are_enough(user: User) -> None:
    user.write("novita.yaml", config())
    built.pretend(user.root, target="prod")
    path = user.root / "novita.lock"
    whole = path.read_text()
    assert user.run("lock", "--merge").err == "novita.lock has no conflict\n"
    line = next(each for each in whole.splitlines() if "build_id" in each)
    other = line.replace("0", "1")
    marked = f"<<<<<<< a\n{line}\n=======\n{other}\n>>>>>>> b"
    path.write_text(whole.replace(line, marked, 1))
    assert user.run("lock", "--merge").code == 0
    assert "<<<" not in path.read_text()
    assert other.strip().removeprefix("build_id: ") in path.read_text()


# --- what is left over -----------------------------------------------------------------------


@pytest.fixture
def renamed(user: User) -> User:
    """A workspace that was built, in which `web` has another name by now."""
    user.write("novita.yaml", config())
    built.pretend(user.root, target="prod")
    mine = Lock(targets={"gone": {"api": entry_of(user, "api")}})
    lockfile.update(user.root / "novita.local.lock", lambda _: mine)
    user.write("novita.yaml", config().replace("web:", "site:"))
    return user


def entry_of(user: User, name: str) -> Entry:
    found = lockfile.read(user.root / "novita.lock").entry("prod", name)
    assert found is not None
    return found


def test_what_novita_yaml_no_longer_has_is_told_and_goes_on_request(renamed: User) -> None:
    web, api = entry_of(renamed, "web"), entry_of(renamed, "api")
    before = (renamed.root / "novita.lock").read_text()

    status = renamed.run("status")
    assert f"web     left over   {web.template_id}  {web.build_id}\n" in status.out
    assert "`web` is no longer in novita.yaml: `sandboxfile delete web --target prod`" in status.err
    assert "`sandboxfile lock --prune` takes it out of the lock alone\n" in status.err
    assert "left over" not in renamed.run("status", "api").out
    renamed.write("other.yaml", config().replace("web:", "site:").replace("api:", "app:"))
    assert (
        "2 templates are no longer in other.yaml: " in renamed.run("status", "-f", "other.yaml").err
    )
    rows = {row["name"]: row for row in renamed.run("status", "--json").data["templates"]}
    assert (rows["web"]["state"], rows["web"]["template_id"]) == ("left over", web.template_id)
    assert (renamed.root / "novita.lock").read_text() == before

    ran = renamed.run("lock", "--prune")

    assert ran.out == (
        f"prod/web  {web.template_id}  {web.build_id}\n"
        f"gone/api  {api.template_id}  {api.build_id}\n"
    )
    assert ran.err == (
        "2 results taken out of the lock, nothing is deleted: "
        f"`sandboxfile delete {web.template_id} --yes --target prod` deletes one at the service\n"
    )
    after = lockfile.read(renamed.root / "novita.lock")
    assert sorted(after.targets["prod"]) == ["api", "python"]
    assert after.resolved == lockfile.parse(before, "").resolved
    assert lockfile.read(renamed.root / "novita.local.lock").targets == {}
    again = renamed.run("lock", "--prune")
    assert (again.code, again.out) == (0, "")
    assert again.err == "nothing is left over in the lock\n"
    assert "left over" not in renamed.run("status").out


def test_only_what_is_named_leaves_the_lock(renamed: User) -> None:
    ran = renamed.run("lock", "--prune", "--target", "gone", "a*", "--json")
    assert [(each["target"], each["name"]) for each in ran.data["dropped"]] == [("gone", "api")]
    assert ran.err == "1 result taken out of the lock, nothing is deleted\n"  # no way leads there

    refused = renamed.run("lock", "--prune", "web", "api")
    assert refused.code == 64
    assert "`api` names nothing that is left over in the lock" in refused.err
    assert "left over: `prod/web`" in refused.err
    assert entry_of(renamed, "web").build_id  # all or nothing

    assert renamed.run("lock", "--prune", "web", "-q").err == ""
    assert "nothing is left over" in renamed.run("lock", "--prune", "web").err
    assert sorted(lockfile.read(renamed.root / "novita.lock").targets["prod"]) == ["api", "python"]


def test_a_configuration_with_a_mistake_drops_nothing(renamed: User) -> None:
    before = (renamed.root / "novita.lock").read_text()
    renamed.write("novita.yaml", config().replace("web:", "we b:"))
    assert renamed.run("lock", "--prune").code == 3
    assert (renamed.root / "novita.lock").read_text() == before
