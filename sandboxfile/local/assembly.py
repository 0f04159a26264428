"""One build, from base image to committed template, logged and worded as the service does it."""

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.errors import NotAllowed, SandboxfileError
from sandboxfile.events import Event, Log, Notice
from sandboxfile.frozen import dataclass, replace
from sandboxfile.local import guest as guests
from sandboxfile.local import names
from sandboxfile.local.allowance import Allowance
from sandboxfile.local.boot import Boot, NotReady, Patience, boot
from sandboxfile.local.guest import DEFAULT_USER, Guest, Tell
from sandboxfile.local.layers import LABEL, Layers, chain
from sandboxfile.local.limits import LIMITS, Limits, Timekeeper, duration
from sandboxfile.local.pushed import Pushes
from sandboxfile.local.records import (
    Build,
    Failed,
    Level,
    Reason,
    Recipe,
    Refusal,
    Result,
    Setting,
)
from sandboxfile.local.repositories import REPOSITORY as PUSHED
from sandboxfile.local.steps import Bench, expect
from sandboxfile.local.store import CANCELLED, Store
from sandboxfile.model import Login
from sandboxfile.reference import ImageReference

REPOSITORY = "sandboxfile/local"  # images of finished templates, tagged with the build's id
OWNER = "sandboxfile.owner"  # label of containers: the process that has to remove them
ROOT = "root"  # whose steps are those of older clients
BASE = "base"
FINALIZE = "finalize"
LOG_LIMIT = 32 << 20  # characters of one build's log: a command may write for ever
INTERNAL = "An internal error occurred. Please try again or contact support with the build ID."
_ENGINE_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every build needs.

    `registry` is where v1 clients push to (`host[:port][/path]`), None for the service's own, with
    what was pushed there in `pushes`. `logins` gives the login for a registry's host, `files` the
    archive that was uploaded under a hash.
    """

    store: Store
    engine: Engine
    logins: Callable[[str], Login | None]
    registry: str | None
    patience: Patience
    files: Callable[[str], Path | None] = lambda _: None
    pushes: Pushes | None = None
    limits: Limits = LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What a build stands on; `start` and `ready` hold where the trigger gives neither."""

    image: str
    setting: Setting
    start: str = ""
    ready: str = ""


class Assembly:
    """One build on its way; `carry_out` never raises for what is wrong with the build."""

    def __init__(self, workshop: Workshop, build: Build, recipe: Recipe, cancel: Cancel) -> None:
        self._workshop = workshop
        self._build = build
        self._recipe = recipe
        self._cancel = cancel
        self._time = Timekeeper(workshop.limits, cancel)
        self._step: str | None = None
        self._hash = ""
        self._from: tuple[str, str] | None = None
        self._boxes = ExitStack()
        self._allowance = Allowance(LOG_LIMIT)

    def carry_out(self) -> None:
        """Build, and leave the outcome in the store; raises Unkept where that takes nothing."""
        began = time.monotonic()
        self._say(f"Building template {self._build.template}/{self._build.id}")
        try:
            result = self._make()
        except Exception as error:  # noqa: BLE001 - whatever it was, the build has to end
            self._end(self._reason(error))
            return
        self._step = None
        self._say(f"Build finished, took {duration(round(time.monotonic() - began))}")
        is_kept = False
        try:
            is_kept = self._workshop.store.finish(self._build.id, result)
        finally:
            if not is_kept:
                self._workshop.engine.untag(result.image)

    def _end(self, reason: Reason) -> None:
        self._announce_base()
        self._step = reason.step
        self._say(f"Build failed: {reason.message}", level="error")
        self._workshop.store.fail(self._build.id, reason)

    def _reason(self, error: Exception) -> Reason:
        if self._time.verdict:
            return Reason(message=self._time.verdict, step=self._step)
        if self._cancel.is_set:
            return Reason(message=CANCELLED)
        if isinstance(error, Failed):
            for line in error.lines:
                self._say(line, level="warn")
            return Reason(message=str(error), step=self._step)
        if isinstance(error, SandboxfileError):
            return Reason(message=error.message, step=self._step)
        self._say(f"{type(error).__name__}: {error}", level="error")
        return Reason(message=INTERNAL)

    def _make(self) -> Result:
        self._step = BASE
        with self._time.within("base"):
            base = self._base()
        layers = self._cached(base)
        # Removing the container is what ends the commands that run in it.
        with self._boxes, self._cancel.on_cancel(self._boxes.close):
            guest, setting = self._perform(base, layers)
            with self._time.within("finalize"):
                result = self._finalize(guest, base, setting)
        if self._cancel.is_set:  # during the commit, which nothing interrupts
            self._workshop.engine.untag(result.image)
            self._cancel.check()
        return result

    def _enter(self, image: str) -> Guest:
        """Go on in a new container of an image; the old one is removed."""
        self._boxes.close()
        engine = self._workshop.engine
        labels = {**self._labels, OWNER: self._workshop.store.presence.id}
        opened = guests.opened(engine, image, labels=labels, resources=self._build.resources)
        box = self._boxes.enter_context(opened)
        self._cancel.check()  # pressed meanwhile, it would not have found the new box
        guest, done = guests.enter(box)
        expect(done, "error waiting for provisioning sandbox: exit status:")
        return guest

    @property
    def _labels(self) -> dict[str, str]:
        return {"sandboxfile.template": self._build.template, "sandboxfile.build": self._build.id}

    # --- base --------------------------------------------------------------------------------

    def _base(self) -> _Base:
        recipe = self._recipe
        if recipe.template is not None:
            self._from = ("[base] FROM template", recipe.template)
            return self._parent(recipe.template)
        images = (recipe.image,) if recipe.image else self._pushed()
        self._from = ("[base] FROM", images[0])
        if not recipe.image:
            self._load(images[0])
        return _Base(
            image=self._present(images),
            setting=Setting(user=ROOT if recipe.as_root else DEFAULT_USER),
            start=self._build.start,  # given at registration, by v1 alone
            ready=self._build.ready,
        )

    def _cached(self, base: _Base) -> Layers:
        """Look up what is cached of this build."""
        recipe, store = self._recipe, self._workshop.store
        script = "" if recipe.template else recipe.pre_boot
        numbers = [number for number, step in enumerate(recipe.steps, 1) if step.force]
        whole = recipe.force or self._build.flow == "v1"
        return Layers(
            store=store,
            engine=self._workshop.engine,
            template=self._build.template,
            keys=chain(store.layers.scope, base.image, base.setting, script, recipe.steps),
            steps=recipe.steps,
            forced=0 if whole else min(numbers, default=len(recipe.steps) + 1),
        )

    def _parent(self, reference: str) -> _Base:
        try:
            parent = self._workshop.store.resolve(names.parse(reference))
        except ValueError as error:
            raise Failed(f"invalid template reference: {error}") from None
        except Refusal as refusal:
            raise Failed(refusal.message) from None
        assert parent.result is not None
        image = self._workshop.engine.find(parent.result.image)
        if image is None:
            raise Failed(f"image '{parent.result.image}' not found: it was removed from the engine")
        return _Base(
            image=image,
            setting=parent.result.setting,
            start=parent.result.start,
            ready=parent.result.ready,
        )

    def _pushed(self) -> tuple[str, ...]:
        """Return where a v1 client may have put its image: as the protocol says, or shorter."""
        name = f"{self._build.template}:{self._build.id}"
        registry = self._workshop.registry
        if registry is None:
            return (f"{PUSHED}/{name}",)
        return f"{registry}/{PUSHED}/{name}", f"{registry}/{name}"

    def _load(self, image: str) -> None:
        """Hand what was pushed to this service over to the engine.

        That works with every engine, also where it could not reach our loopback to pull.
        """
        pushes = self._workshop.pushes
        if pushes is None or self._workshop.registry is not None:
            return
        pushed = pushes.find(self._build.template, self._build.id)
        if pushed is None:
            return
        self._say(f"Pulling {image}")
        try:
            self._workshop.engine.load(pushed.archive(image), image, cancel=self._cancel)
        except SandboxfileError as error:
            raise Failed(
                f"failed to pull build image from registry: '{image}': {error.message}"
            ) from error

    def _present(self, images: tuple[str, ...]) -> str:
        """Return the id of the first of these images that the engine has or can pull."""
        engine = self._workshop.engine
        for image in images:
            _check_reference(image)
            if found := engine.find(image):
                return found
        self._announce_base()
        for image in images:
            try:
                self._pull(image)
            except Failed:
                if image == images[-1]:
                    raise
            else:
                break
        found = engine.find(image)
        if found is None:
            raise Failed(f"image '{image}' not found: the engine lost it")
        return found

    def _pull(self, image: str) -> None:
        if _ENGINE_ID.fullmatch(image):
            raise Failed(f"image '{image}' not found: the engine has no image with this id")
        if not self._recipe.image and self._workshop.registry is None:
            raise Failed(
                f"failed to pull build image from registry: '{image}' was not pushed to this"
                " service, and is not in the engine"
            )
        self._say(f"Pulling {image}")
        given = self._recipe.credentials
        if given is not None and given.login is None:
            raise Failed(
                f"access denied to '{image}': registry credentials of type '{given.kind}' are not"
                " supported by the local service"
            )
        login = (
            given.login if given else self._workshop.logins(ImageReference.parse(image).registry)
        )
        try:
            self._workshop.engine.ensure(
                image, login=login, emit=self._pulling, cancel=self._cancel, job=self._build.id
            )
        except SandboxfileError as error:
            raise Failed(self._pull_failure(image, error)) from error

    def _pull_failure(self, image: str, error: SandboxfileError) -> str:
        if not self._recipe.image:
            return f"failed to pull build image from registry: '{image}': {error.message}"
        if not isinstance(error, NotAllowed):
            return f"failed to pull image '{image}': {error.message}"
        what = "image '{}' not found" if "has no" in error.message else "access denied to '{}'"
        return f"{what.format(image)}: {error.message}"

    def _pulling(self, event: Event) -> None:
        match event:
            case Log(text=text):
                self._say(f"[base] {text}", level="debug")
            case Notice(text=text):
                self._say(text, level="warn")
            case _:
                pass

    def _announce_base(self, *, cached: bool = False) -> None:
        """Say what the build stands on, once."""
        if self._from is not None:
            self._mark(*self._from, cached=cached)
            self._from = None

    def _provision(self, base: _Base, layers: Layers) -> Guest:
        cached = layers.is_known(0) and not self._recipe.pre_boot
        self._announce_base(cached=cached)
        self._say("Provisioning sandbox template", level="debug" if cached else "info")
        guest = self._enter(base.image)
        if self._recipe.pre_boot and self._recipe.template is None:
            done = guest.script(self._recipe.pre_boot)
            expect(done, "error waiting for provisioning sandbox: exit status:")
        self._mark("[base] DEFAULT USER", DEFAULT_USER, cached=cached)
        layers.keep(0, base.setting, guest.box, on=base.image)
        return guest

    # --- steps -------------------------------------------------------------------------------

    def _perform(self, base: _Base, layers: Layers) -> tuple[Guest, Setting]:
        """Carry out the steps from the last one on that is cached."""
        done, held = layers.resume(self._enter)
        image = base.image
        if held is None:
            with self._time.within("provisioning"):
                guest, setting = self._provision(base, layers), base.setting
        else:
            guest, setting, image = held
            self._announce_base(cached=True)
            self._mark("[base] DEFAULT USER", DEFAULT_USER, cached=True)
        is_cached = True
        for number, step in enumerate(self._recipe.steps, 1):
            self._cancel.check()
            self._step = str(number)
            is_cached = is_cached and layers.is_cached(number, done)
            prefix = f"[builder {number}/{len(self._recipe.steps)}]"
            self._mark(f"{prefix} {step.type}", " ".join(step.args), cached=is_cached)
            if number > done:
                bench = Bench(guest=guest, files=self._workshop.files)
                with self._time.within("step"):
                    setting = bench.perform(step, setting, tell=self._output(prefix))
                if layer := layers.keep(number, setting, guest.box, on=image):
                    guest, image = self._enter(layer), layer
        return guest, setting

    def _output(self, prefix: str) -> Tell:
        return lambda stream, text: self._say(f"{prefix} [{stream}]: {text}")

    # --- finalize ----------------------------------------------------------------------------

    def _finalize(self, guest: Guest, base: _Base, setting: Setting) -> Result:
        self._step = FINALIZE
        self._mark("[finalize] Finalizing template build", "")
        with self._time.within("configuration"):
            expect(guest.configure(), "configuration script failed: exit status")
        setting = replace(setting, workdir=setting.workdir or guest.home(setting.user))
        start, ready = self._commands(base)
        what = Boot(start=start, ready=ready, setting=setting)
        try:
            boot(guest, what, patience=self._workshop.patience, cancel=self._cancel, say=self._say)
        except NotReady as error:
            raise Failed(error.message) from None
        self._cancel.check()
        image = f"{REPOSITORY}:{self._build.id}"
        guest.box.commit(image, labels={**self._labels, LABEL: "false"})
        result = Result(image=image, setting=setting, start=start, ready=ready)
        if not self._recipe.as_root:
            return result
        return replace(result, user=DEFAULT_USER, workdir=guest.home(DEFAULT_USER))

    def _commands(self, base: _Base) -> tuple[str, str]:
        """Return start and ready: the base's only if neither is given (docs/protocol.md, 3.6)."""
        recipe = self._recipe
        if recipe.start is None and recipe.ready is None:
            return base.start, base.ready
        return recipe.start or "", recipe.ready or ""

    # --- saying ------------------------------------------------------------------------------

    def _mark(self, what: str, text: str, *, cached: bool = False) -> None:
        """Say what is done next, with a hash of all so far (docs/protocol.md, 5.4)."""
        self._hash = hashlib.sha256(f"{self._hash}\0{what}\0{text}".encode()).hexdigest()
        words = ("CACHED" if cached else "", what, text, f"[{self._hash[:16]}]")
        self._say(" ".join(filter(None, words)))

    def _say(self, message: str, *, level: Level = "info") -> None:
        is_wrong = level in {"warn", "error"}  # that is told even where the log is full
        allowed = message if is_wrong else self._allowance.cut(message)
        if allowed is not None:
            self._workshop.store.log(self._build.id, allowed, level=level, step=self._step)


def _check_reference(image: str) -> None:
    if _ENGINE_ID.fullmatch(image):
        return
    try:
        ImageReference.parse(image)
    except ValueError as error:
        raise Failed(f"image '{image}' not found: {error}") from None
