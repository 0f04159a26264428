import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile import reading


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("file", ["file"]),
        ("dir/../file", ["file"]),
        ("link", ["link", "file"]),
        ("through", ["through", "below", "dir/up", "file"]),
        ("absolute/up", ["absolute", "dir/up", "file"]),
        ("nowhere", ["nowhere", "dir/absent"]),
    ],
)
def test_every_link_on_the_way_is_named(tmp_path: Path, path: str, way: list[str]) -> None:
    root = Path(os.path.realpath(tmp_path))
    (root / "dir").mkdir()
    (root / "file").write_text("")
    (root / "link").symlink_to("./file")
    (root / "below").symlink_to("dir/")
    (root / "dir/up").symlink_to("../file")
    (root / "through").symlink_to("below/up")
    (root / "absolute").symlink_to(root / "dir")
    (root / "nowhere").symlink_to("dir/absent")

    assert reading.way(f"{root}/{path}") == [f"{root}/{each}" for each in way]


def test_a_link_to_itself_leads_nowhere_and_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert f"{tmp_path}/loop" in reading.way(f"{tmp_path}/loop")
    assert reading.way("/") == ["/"]


@pytest.mark.parametrize("read", [reading.regular, reading.own])
def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, read: Callable[[Path], bytes]
) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 200 << 30)

    with pytest.raises(OSError, match="it is larger than 256 MiB"):
        read(path)

    os.truncate(path, 1 << 20)
    assert len(read(path)) == 1 << 20
    os.truncate(path, (1 << 20) + 1)
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        reading.regular(path, limit=1 << 20)
