import subprocess
import sys
from pathlib import Path

from sandboxfile.local.presence import Presence

HOLD = """
import sys
from pathlib import Path
from sandboxfile.local.presence import Presence
print(Presence(Path(sys.argv[1])).id, flush=True)
sys.stdin.read()
"""


def test_another_process_is_alive_until_it_is_killed(tmp_path: Path) -> None:
    mine = Presence(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        owner = other.stdout.readline().decode().strip()

        assert mine.is_alive(owner)
        assert mine.dead() == []
        other.kill()
        other.wait()

    assert not mine.is_alive(owner)
    assert mine.dead() == [owner]
    mine.bury(owner)
    assert mine.dead() == []
    mine.close()


def test_who_says_goodbye_leaves_nothing(tmp_path: Path) -> None:
    mine, other = Presence(tmp_path), Presence(tmp_path)
    assert mine.is_alive(mine.id)
    assert mine.is_alive(other.id)

    other.close()

    assert not mine.is_alive(other.id)
    assert mine.dead() == []
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_no_name_yet_is_nobody(tmp_path: Path) -> None:
    mine = Presence(tmp_path)
    (tmp_path / ".unborn").touch()
    assert mine.dead() == []
    mine.close()
