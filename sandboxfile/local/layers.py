"""The layer cache: which steps need not be carried out again (docs/protocol.md, 5.6).

A layer is an image of the box as it was after a step, tagged so that the engine keeps it. The key
of a step is a digest of all that came before it, beginning with the engine's id of the base image:
a tag that moved makes other keys. A row is written once its image is whole, and names the image by
its id, so that nothing else that gets its tag is ever taken for it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from sandboxfile.engines import Box, Engine
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass, field
from sandboxfile.local.guest import Guest
from sandboxfile.local.records import Layer, Setting, Step
from sandboxfile.local.store import Store

REPOSITORY = "sandboxfile/layer"
LABEL = "sandboxfile.layer"  # "true" at layers, "false" at the templates that are built on them
FORMAT = 1  # of the keys; to be raised when a step comes to mean something else
# Done again sooner than an image is made; they are cached in name.
QUICK = frozenset({"ENV", "ARG", "USER", "WORKDIR"})
DEPTH = 100  # layers of an image beyond which no more are stacked; engines can take about 125
SLOW_S = 1.0  # a commit that took longer is gone on with, so that it is not made again and again


def chain(
    scope: str, image: str, setting: Setting, script: str, steps: Sequence[Step]
) -> tuple[str, ...]:
    """Return the keys of the base and of each step; `script` is what ran on the base."""
    base = [FORMAT, scope, image, setting.user, setting.workdir, dict(setting.env), script]
    keys = [_digest(base)]
    for step in steps:
        keys.append(_digest([keys[-1], step.type, step.args, step.files_hash]))
    return tuple(keys)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


Held = tuple[Guest, Setting, str]  # a box, its setting, and the image that it stands on


def tag(key: str) -> str:
    return f"{REPOSITORY}:{key}"


@dataclass(slots=True, kw_only=True)
class Layers:
    """The layers of one build; `forced` is the first step that is to be built, 0 for the base."""

    store: Store
    engine: Engine
    template: str
    keys: tuple[str, ...]
    steps: tuple[Step, ...]
    forced: int
    known: Mapping[str, Layer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up what is known of the steps before the first forced one."""
        self.known = self.store.layers.known(self.keys[: self.forced])

    def resume(self, enter: Callable[[str], Guest]) -> tuple[int, Held | None]:
        """Enter the box of the last step that an image is there for; its number, and all else.

        0 and None when there is none: then no box was entered.
        """
        for number in range(min(self.forced, len(self.keys)) - 1, 0, -1):
            layer = self.known.get(self.keys[number])
            if layer is None or layer.image is None:
                continue
            guest = self._entered(layer.image, enter)
            if guest is not None:
                self.store.layers.use(self.keys[: number + 1], self.template)
                return number, (guest, layer.setting, layer.image)
        return 0, None

    def _entered(self, image: str, enter: Callable[[str], Guest]) -> Guest | None:
        if self.engine.find(image) is None:
            return None
        try:
            return enter(image)
        except SandboxfileError:
            if self.engine.find(image) is not None:
                raise
            return None  # cleaned away this very moment

    def is_known(self, number: int) -> bool:
        """Whether a quick step has been carried out before; of others it says nothing."""
        return self.keys[number] in self.known

    def is_cached(self, number: int, done: int) -> bool:
        """Whether a step need not be carried out, or is a quick one that has been before."""
        return number <= done or (self.is_known(number) and self.steps[number - 1].type in QUICK)

    def keep(self, number: int, setting: Setting, box: Box, *, on: str) -> str | None:
        """Remember a step that was carried out in a box that stands on the image `on`.

        Returns the image to go on with in a new box, None to go on in the same. The first build of
        a key wins, unless the step was forced.
        """
        key = self.keys[number]
        if number == 0 or self.steps[number - 1].type in QUICK:
            self._remember(Layer(key=key, image=None, setting=setting))
            return None
        if self.engine.depth(on) >= DEPTH or (number < self.forced and self._is_made(key)):
            return None
        began = time.monotonic()
        if not self.store.layers.known((key,)):  # killed meanwhile, its image is taken away one day
            self._remember(Layer(key=key, image=None, setting=setting))
        image = box.commit(tag(key), labels={LABEL: "true"})
        self._remember(Layer(key=key, image=image, setting=setting))
        return image if time.monotonic() - began > SLOW_S else None

    def _is_made(self, key: str) -> bool:
        """Whether another build has made this layer meanwhile."""
        layer = self.store.layers.known((key,)).get(key)
        return layer is not None and layer.image is not None and bool(self.engine.find(layer.image))

    def _remember(self, layer: Layer) -> None:
        self.store.layers.keep(layer)
        self.store.layers.use((layer.key,), self.template)


def discard(store: Store, engine: Engine, keys: Iterable[str]) -> None:
    """Forget layers, and take them from the engine; as far as it lets us."""
    for key in keys:
        store.layers.drop(key)
        with suppress(SandboxfileError):
            engine.untag(tag(key))
