"""Every mistake that can be made in `novita.yaml`, with the exact text that answers it.

A case is a document, a line `# --- expect`, and what `sandboxfile validate` writes. Further files
follow the document, each after a line `# --- file PATH`; a line `# given NAME=VALUE` stands for a
variable of the environment, `# given --var NAME=VALUE` for that option. To write the answers anew:
`SANDBOXFILE_UPDATE_GOLDEN=1 pytest tests/golden`, then read the difference.
"""

import os
import re
from pathlib import Path

import pytest

from sandboxfile.config import load
from sandboxfile.config.given import Given
from sandboxfile.errors import ConfigError

CASES = sorted((Path(__file__).parent / "errors").glob("*.yaml"))
MARK = "# --- expect\n"
UPDATE = os.environ.get("SANDBOXFILE_UPDATE_GOLDEN") == "1"
FILES = {
    "requirements.txt": "requests==2.32.3\n",
    "reqs/includes.txt": "requests\n-r ../elsewhere.txt\n",
    "reqs/latin.txt": "",
    "web/package.json": "{}\n",
    "empty/README": "",
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "demo"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "reqs" / "latin.txt").write_bytes(b"caf\xe9\n")
    (root / "reqs" / "large.txt").write_text("a\n" * (1 << 20))
    (tmp_path / "outside.txt").write_text("requests\n")
    (root / "reqs" / "link.txt").symlink_to(tmp_path / "outside.txt")
    monkeypatch.chdir(root)
    return root


def answer(root: Path, document: str) -> str:
    first, *others = re.split(r"^# --- file (.+)\n", document, flags=re.MULTILINE)
    path = root / "novita.yaml"
    path.write_text(first)
    for name, text in zip(others[::2], others[1::2], strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "linked").symlink_to("services", target_is_directory=True)
    said = re.findall(r"^# given (--var )?(\w+)=(.*)$", first, flags=re.MULTILINE)
    given = Given(
        options={name: value for option, name, value in said if option},
        environ={name: value for option, name, value in said if not option},
    )
    with pytest.raises(ConfigError) as caught:
        load.load(path, given=given)
    return str(caught.value).replace(str(root.parent.resolve()), "/elsewhere") + "\n"


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_a_mistake_is_answered_exactly(case: Path, workspace: Path) -> None:
    document, mark, expected = case.read_text().partition(MARK)
    actual = answer(workspace, document)
    if UPDATE:
        case.write_text(document + MARK + actual)
        return
    assert mark
    assert actual == expected


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 160
