"""What the docker SDK does with a tree: a script, run as a process.

`dockersdk.py TEMPLATES NAME...` builds one after the other, with the SDK's own archives. It knows
the classic builder only. It imports nothing of ours: that would be counted as the SDK's.
"""

import sys
from pathlib import Path

import docker


def main(templates: Path, names: list[str]) -> None:
    client = docker.from_env()
    for name in names:
        client.images.build(path=str(templates / name), tag=f"sfbench/{name}:sdk")
    client.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
