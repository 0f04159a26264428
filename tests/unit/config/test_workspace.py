"""Targets, engine and secrets, with what follows from what."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.config import workspace
from sandboxfile.config.schema import load
from sandboxfile.model import LEGACY_DOMAINS, EngineChoice, SecretSource, Target, Workspace

Read = Callable[[str], Workspace]
HEAD = "version: 1\nbase: alpine\n"


def test_without_targets_there_are_the_service_and_this_machine(read: Read) -> None:
    found = read(HEAD).targets
    assert found == {
        "novita": Target(name="novita", provider="novita", builder="remote"),
        "local": Target(name="local", provider="local"),
    }


def test_this_machine_is_always_there(read: Read) -> None:
    found = read(HEAD + "targets: {prod: {provider: novita}}\n").targets
    assert list(found) == ["prod", "local"]
    assert found["local"].provider == "local"


def test_local_may_be_another_target(read: Read) -> None:
    found = read(HEAD + "targets: {local: {provider: novita, domain: a.b}}\n").targets
    assert list(found) == ["local"]
    assert found["local"].domain == "a.b"


@pytest.mark.parametrize(
    ("text", "api", "builder"),
    [
        ("{provider: novita}", "v3", "remote"),
        ("{provider: novita, registry: ghcr.io/a}", "v3", "docker"),
        ("{provider: novita, registry: ghcr.io/a, builder: remote}", "v3", "remote"),
        ("{provider: novita, domain: us-phx-1.sandbox.novita.ai}", "v3", "remote"),
        ("{provider: novita, domain: sandbox.novita.ai}", "v1", "docker"),
        ("{provider: novita, domain: sandbox.novita.ai, api: v3}", "v3", "remote"),
        ("{provider: novita, api: v1}", "v1", "docker"),
        ("{provider: novita, api_url: 'http://127.0.0.1:80/'}", "v3", "remote"),
        ("{provider: local}", "v3", "docker"),
        ("{provider: local, builder: docker}", "v3", "docker"),
    ],
)
def test_generation_and_builder_follow(read: Read, text: str, api: str, builder: str) -> None:
    target = read(HEAD + f"targets: {{t: {text}}}\n").targets["t"]
    assert (target.api, target.builder) == (api, builder)


@pytest.mark.parametrize("domain", sorted(LEGACY_DOMAINS))
def test_every_legacy_domain_speaks_v1(read: Read, domain: str) -> None:
    text = HEAD + f"targets: {{t: {{provider: novita, domain: {domain}}}}}\n"
    assert read(text).targets["t"].api == "v1"


def test_a_target_with_everything(read: Read) -> None:
    target = read(
        HEAD + "targets:\n  box:\n    provider: novita\n    api_url: http://127.0.0.1:8080/\n"
        "    registry: 127.0.0.1:5000\n    tags: [a, '${key}']\n    default: false\n    x-note: 1\n"
    ).targets["box"]
    assert target == Target(
        name="box",
        provider="novita",
        api_url="http://127.0.0.1:8080",
        registry="127.0.0.1:5000",
        builder="docker",
        tags=("a", "${key}"),
        default=False,
        at=target.at,
    )
    assert str(target.at) == "novita.yaml:4:3"


@pytest.mark.parametrize("name", ["prod", "local"])
def test_the_default_target(read: Read, name: str) -> None:
    text = HEAD + f"targets: {{prod: {{provider: novita}}}}\ndefault_target: {name}\n"
    assert read(text).default_target == name


def test_without_one_there_is_no_default_target(read: Read) -> None:
    assert read(HEAD).default_target is None


def test_a_default_target_that_is_wrong_is_still_a_target(
    wrong: Callable[[str], list[str]],
) -> None:
    text = HEAD + "targets: {prod: {provider: aws}}\ndefault_target: prod\n"
    assert wrong(text) == ["3:28: `targets.prod.provider` cannot be the text `aws`"]


@pytest.mark.parametrize("kind", ["auto", "docker", "buildx", "podman", "classic"])
def test_an_engine(read: Read, kind: str) -> None:
    assert read(HEAD + f"engine: {kind}\n").engine.kind == kind


def test_a_builder_of_buildx(read: Read) -> None:
    expected = EngineChoice(kind="buildx", builder="cluster")
    engine = read(HEAD + "engine: {buildx: cluster}\n").engine
    assert engine == expected
    assert str(engine.at) == "novita.yaml:3:9"


def test_an_engine_left_out_is_chosen(read: Read) -> None:
    assert read(HEAD).engine == EngineChoice()
    assert read(HEAD + "engine:\n").engine == EngineChoice()


def test_secrets_say_where_they_come_from(root: Path, read: Read) -> None:
    found = read(HEAD + "secrets: {a: {env: A_TOKEN}, b.c: {file: .secrets/b}}\n").secrets
    assert found == {
        "a": SecretSource(id="a", env="A_TOKEN"),
        "b.c": SecretSource(id="b.c", file=root / ".secrets" / "b"),
    }


def test_no_credential_word_is_a_key_of_a_target() -> None:
    keys = load()["$defs"]["target"]["properties"]
    assert not set(workspace.CREDENTIALS) & set(keys)
