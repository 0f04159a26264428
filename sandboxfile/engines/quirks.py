"""Where Podman's socket differs from Docker's, as a table; found by trying 4.3 and 5.8."""

from sandboxfile.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What the code must do differently; the defaults are Docker Engine's ways."""

    version_parameter: bool = True  # `version` of POST /build chooses the builder
    cancels_builds: bool = True  # closing the connection stops the running step
    commit_config: bool = True  # POST /commit reads the configuration in its body
    init: bool = True  # HostConfig.Init works wherever the engine does


DOCKER = Quirks()
PODMAN = Quirks(
    version_parameter=False,
    cancels_builds=False,
    commit_config=False,
    init=False,
)
