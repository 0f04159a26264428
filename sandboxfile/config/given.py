"""What a run says of the variables that `novita.yaml` declares."""

from collections.abc import Mapping

from sandboxfile.frozen import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a run brings along: `--var` by name, and the environment."""

    options: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
