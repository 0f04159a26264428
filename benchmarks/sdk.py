"""What Novita's SDK needs to find out that nothing has changed: a script, run as a process.

`sdk.py ROOT FOLDER NAME...` hashes the files of each template as the SDK does before every build.
With `from_image` it would ask the image's registry, too. It imports nothing of ours: that would be
counted as the SDK's.
"""

import sys

from novita_sandbox.core import Template


def main(root: str, folder: str, names: list[str]) -> None:
    for name in names:
        template = (
            Template(file_context_path=root)
            .from_template("base")
            .set_envs({"APP_ENV": "production", "PORT": "3000"})
            .copy(f"templates/{name}/{folder}/", "/app/")
            .run_cmd("echo built > /app/stamp")
            .set_workdir("/app")
        )
        Template.to_json(template)
    sys.stdout.write(f"{len(names)} hashed\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
