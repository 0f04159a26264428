"""A plan split over several machines, as `plan` and `build` tell of it."""

import json
import shutil

import pytest

from sandboxfile import durations, lockfile
from tests.fakes import built
from tests.fakes.shell import User

CONFIG = """\
version: 1
templates:
  python: {base: "debian:12", packages: {apt: [python3]}}
  api: {base: {template: python}, run: [make api]}
  web: {base: {template: python}, run: [make web]}
  one: {base: "debian:12", run: [a, b]}
  two: {base: "debian:12", run: [c]}
groups: {default: [api, web, one, two]}
"""


@pytest.fixture
def team(user: User) -> User:
    user.write("novita.yaml", CONFIG)
    lockfile.update(user.root / "novita.lock", lambda lock: lock.with_resolved(built.PINS))
    return user


def planned(user: User, *argv: str) -> list[str]:
    ran = user.run("plan", "--offline", "--json", *argv)
    assert (ran.code, ran.err) == (0, "")
    return ran.stale


def matrix(user: User, *argv: str) -> list[dict[str, object]]:
    ran = user.run("plan", "--offline", "--matrix", "github", *argv)
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    document = json.loads(ran.out)
    assert list(document) == ["include"]
    include: list[dict[str, object]] = document["include"]
    return include


def test_each_template_is_in_one_shard_and_chains_stay_whole(team: User) -> None:
    assert planned(team, "--shard", "1/2") == ["python", "api", "web"]
    assert planned(team, "--shard", "2/2") == ["one", "two"]
    assert planned(team, "--shard", "3/3") == ["two"]
    assert planned(team, "--shard", "4/4") == []
    assert planned(team, "--shard", "2/2", "api", "two") == ["two"]
    ran = team.run("build", "--dry-run", "--offline", "--shard", "2/2")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "2 to build")
    assert "shard 2/2: one, two\n" in ran.err


def test_a_plan_is_estimated_by_what_earlier_runs_took(team: User) -> None:
    assert "about" not in team.run("plan", "--offline").out
    assert team.run("plan", "--offline", "--json").data["estimate"] is None
    (team.root / ".sandboxfile").mkdir(exist_ok=True)
    costs = {f"build:{name}": durations.Cost(seconds=40.0) for name in ("python", "one", "two")}
    costs |= {f"{step}:one": durations.Cost(seconds=0.0) for step in ("generate", "tag", "push")}
    costs["snapshot:one"] = durations.Cost(seconds=0.2)
    durations.record(team.root / ".sandboxfile" / durations.FILE, "local", costs)
    assert "\nabout 1m20s with -j 4, by earlier runs\n" in team.run("plan", "--offline").out
    ran = team.run("plan", "--offline", "--json", "-j", "1", "one", "two")
    assert ran.data["estimate"] == {
        "seconds": 80.2, "jobs": 1, "templates": {"one": 40.2, "two": 40.2},
    }  # fmt: skip
    assert team.run("plan", "-j", "0").code == 64
    both = ("--shards", "1", "one", "two")
    assert matrix(team, *both)[0]["estimate_seconds"] == 40
    assert matrix(team, "-j", "1", *both)[0]["estimate_seconds"] == 80


def test_what_is_up_to_date_is_in_no_shard_and_splits_chains(team: User) -> None:
    built.pretend(team.root)
    assert matrix(team) == []
    team.write("novita.yaml", CONFIG.replace("make api", "x").replace("make web", "y"))
    shards = [planned(team, "--shard", f"{number}/2") for number in (1, 2)]
    assert shards == [["api"], ["web"]]


def test_what_is_forced_is_what_is_named(team: User) -> None:
    built.pretend(team.root)
    argv = ["--force", "api", "two"]
    assert [planned(team, "--shard", f"{n}/2", *argv) for n in (1, 2)] == [["api"], ["two"]]


def test_an_empty_shard_succeeds_without_touching_anything(team: User) -> None:
    before = (team.root / "novita.lock").read_bytes()
    ran = team.run("build", "--shard", "9/9")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines()[1:] == ["shard 9/9: nothing to do in this shard"]
    ran = team.run("plan", "--offline", "--shard", "9/9")
    assert (ran.code, ran.out) == (0, "shard 9/9: nothing to do in this shard\n")
    ran = team.run("build", "--shard", "9/9", "--json")
    assert (ran.code, ran.data["templates"]) == (0, [])
    assert (team.root / "novita.lock").read_bytes() == before


def test_what_one_machine_has_measured_or_kept_does_not_change_the_split(team: User) -> None:
    split = [planned(team, "--shard", f"{number}/3") for number in (1, 2, 3)]
    shutil.rmtree(team.root / ".sandboxfile", ignore_errors=True)
    (team.root / ".sandboxfile").mkdir()
    known = {f"build:{name}": [900.0, 0] for name in ("one", "two")}
    text = json.dumps({"version": 1, "jobs": known})
    (team.root / ".sandboxfile" / durations.FILE).write_text(text)
    assert matrix(team, "--shards", "3")[1]["estimate_seconds"] > 900  # type: ignore[operator]
    assert [planned(team, "--shard", f"{number}/3") for number in (1, 2, 3)] == split
    assert len(matrix(team)) == 3, "as much work as that is worth all the machines"


def test_the_matrix_of_github_has_the_shards_that_have_work(team: User) -> None:
    assert matrix(team) == [
        {"shard": "1/1", "templates": "api one python two web", "estimate_seconds": None}
    ]
    assert matrix(team, "--shards", "9") == [
        {"shard": "1/3", "templates": "api python web", "estimate_seconds": None},
        {"shard": "2/3", "templates": "one", "estimate_seconds": None},
        {"shard": "3/3", "templates": "two", "estimate_seconds": None},
    ]
    for each in matrix(team, "--shards", "2"):
        assert sorted(planned(team, "--shard", str(each["shard"]))) == str(each["templates"]).split(
            " "
        )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["plan", "--shard", "3/2"], "`3/2` is no shard: write `1/4` to `4/4`"),
        (["build", "--shard", "half"], "`half` is no shard: write `1/4` to `4/4`"),
        (["plan", "--shards", "2"], "`--shards` is the size of a `--matrix`"),
        (["plan", "--matrix", "github", "--shards", "0"], "a matrix has 1 to 256 jobs"),
        (["plan", "--matrix", "github", "--shard", "1/2"], "`--shard` is one of them"),
        (["build", "--frozen", "--shard", "1/2"], "`--frozen` computes nothing"),
    ],
)
def test_what_goes_with_nothing_is_said(team: User, argv: list[str], said: str) -> None:
    ran = team.run(*argv)
    assert ran.code == 64
    assert said in ran.err
