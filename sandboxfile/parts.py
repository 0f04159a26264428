"""The real parts of a run, each opened when it is first needed: engine, registry, publisher.

What only some runs need (an engine, one of the publishers) is imported where it is opened: the
local service alone is a fifth of the program.
"""

import math
from collections.abc import Mapping
from functools import cache

from sandboxfile import (
    account,
    app,
    buildcache,
    collector,
    credentials,
    fidelity,
    pipeline,
    pulling,
)
from sandboxfile.account import Account
from sandboxfile.app import Session
from sandboxfile.configs import Configs
from sandboxfile.engines import Engine
from sandboxfile.errors import NotAllowed
from sandboxfile.frozen import replace
from sandboxfile.headstart import HeadStart
from sandboxfile.images import Images
from sandboxfile.journal import Journal
from sandboxfile.lockwriter import LockWriter
from sandboxfile.loopback import is_loopback
from sandboxfile.manifests import Manifests
from sandboxfile.model import BuildCache, Feature, Login, RegistryCredentials, Secret
from sandboxfile.packs import Packs
from sandboxfile.pipeline import Pipeline
from sandboxfile.registry import Registry
from sandboxfile.resolve import Resolver
from sandboxfile.service import TemplateService
from sandboxfile.surveyed import Survey
from sandboxfile.targets import Publisher
from sandboxfile.targets.patience import Patience
from sandboxfile.web import Web


class Parts:
    """Everything outside that a session talks to; safe to ask from several threads."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._environ: Mapping[str, str] = session.args.environ
        collector.resume()  # who talks to others may wait long

    def engine(self) -> Engine:
        """Return the engine. Raises Unreachable."""
        return self.session.once("engine", self._engine)

    def _engine(self) -> Engine:
        from sandboxfile.engines import choose

        return choose.choose(
            self.session.workspace.engine,
            environ=self._environ,
            network=self._environ.get("SANDBOXFILE_NETWORK") or None,
        )

    @property
    def cache(self) -> BuildCache:
        session = self.session
        return session.target.cache or session.workspace.cache or BuildCache()

    def check_builder(self) -> None:
        """Say once, before any build, what each would: that builder or cache cannot be used.

        Raises Unreachable, Unsupported.
        """
        from sandboxfile.engines import choose, probe

        choice = choose.asked(self.session.workspace.engine, self._environ)
        if choice.builder is None and self.cache == BuildCache():
            return
        info = self.engine().info()
        wanted: list[Feature] = ["cache_import"] if self.cache != BuildCache() else []
        if not all(map(buildcache.is_inline, self.cache.to)):
            wanted.append("cache_export")
        for need in wanted:
            if need not in info.can:
                error = probe.lack(need, info)
                error.at = self.cache.at
                raise error

    def web(self) -> Web:
        return self.session.once("web", self._web)

    def _web(self) -> Web:
        return Web(cancel=self.session.cancel, emit=self.session.emit)

    def registry(self) -> Registry:
        return self.session.once("registry", lambda: Registry(self.web(), self.login))

    def login(self, host: str) -> Login | None:
        """Return the login for a registry: the target's from the environment, else Docker's."""
        found = self._own_login(host)
        if found is None:
            home = self.session.args.home
            found = credentials.login_for(host, environ=self._environ, home=home)
        if found is not None:
            self.session.redactor.add(found.password)
        return found

    def pull_credentials(self, host: str) -> RegistryCredentials | None:
        """Return what the service is given to pull from a registry with.

        The target's login from the environment comes first: who does not want a cloud's key to
        be told to the service sets that.
        """
        own = self._own_login(host)
        if own is not None:
            self.session.redactor.add(own.password)
            return own
        found = pulling.find(
            host,
            environ=self._environ,
            home=self.session.args.home,
            login=lambda: self.login(host),
            is_novita=fidelity.service_of(self.session.target) == "novita",
        )
        if found is None:
            return None
        self.session.redactor.add(*pulling.secrets(found.credentials))
        return found.credentials

    def _own_login(self, host: str) -> Login | None:
        target = self.session.target
        if target.api == "v1" and not target.registry:
            from sandboxfile.targets import novita_v1

            if host == novita_v1.registry_host(target):
                self._check_trusted()
                return novita_v1.registry_login(self._account().token)
        user = self._environ.get("SANDBOXFILE_REGISTRY_USERNAME")
        password = self._environ.get("SANDBOXFILE_REGISTRY_PASSWORD")
        mine = (target.registry or "").partition("/")[0]
        if not user or not password or host != mine:
            return None
        self._check_named(host)
        return Login(username=user, password=Secret(password))

    def _check_trusted(self) -> None:
        """Raise NotAllowed unless the account's key may be sent to the target."""
        target = self.session.target
        trusted = app.trusted_hosts(self._environ, self.session.args.home)
        assert target.api_url is not None
        account.check_trusted(target.api_url, trusted, at=target.at)

    def _check_named(self, host: str) -> None:
        """Raise NotAllowed unless the operator, not only the file, named this registry."""
        trusted = app.trusted_hosts(self._environ, self.session.args.home)
        named = self._environ.get("SANDBOXFILE_REGISTRY", "").partition("/")[0]
        name = host.rpartition(":")[0] or host
        if is_loopback(name.strip("[]")) or host == named or {host, name} & trusted:
            return
        raise NotAllowed(
            f"SANDBOXFILE_REGISTRY_PASSWORD is not sent to `{host}`: only novita.yaml names it",
            hint=f"if you trust it, set `SANDBOXFILE_TRUSTED_HOSTS={name}`",
            at=self.session.target.at,
        )

    def manifests(self) -> Manifests:
        return Manifests(self.session.kept / "manifests")

    def configs(self) -> Configs:
        """Return what reads the configurations of images."""
        session = self.session
        return session.once(
            "configs",
            lambda: Configs(
                directory=session.kept / "configs",
                cache=app.cache(self._environ, session.args.home) / "os-release",
                engine=self.engine,
                registry=self.registry,
                offline=session.args.offline,
                on_engine=session.target.provider == "local",
            ),
        )

    def resolver(self) -> Resolver:
        """Return what finds the digests of bases."""
        session = self.session
        return Resolver(
            engine=self.engine,
            inspect=self.configs().inspected,
            registry=self.registry,
            logins=self.login,
            bootstrap_cache=app.cache(self._environ, session.args.home) / "bootstrap",
            mirror=self._environ.get("SANDBOXFILE_MIRROR") or None,
            offline=session.args.offline,
            emit=session.emit,
            cancel=session.cancel,
            elsewhere=session.target.builder == "remote",
        )

    def images(
        self, survey: Survey, resolved: Mapping[str, str], *, no_cache: bool = False
    ) -> Images:
        """Return what makes the images of templates."""
        session = self.session
        known, builder = cache(session.entries), session.target.builder
        return Images(
            survey=survey,
            resolved=resolved,
            generated=session.kept / "generated",
            engine=self.engine,
            published=lambda surveyed: pipeline.published(
                surveyed, known().get(surveyed.template.name), builder, self.publisher
            ),
            resolver=self.resolver(),
            configs=self.configs(),
            digests=session.digests(),
            secrets=session.secret,
            no_cache=no_cache,
            builder=builder,
            emit=session.emit,
            cancel=session.cancel,
            cache=self.cache,
            # The legacy line tells where to push when a build is registered, not before.
            registry=session.target.registry if session.target.api != "v1" else None,
            logins=self._own_login,
            packs=session.once("packs", Packs),
        )

    def pipeline(
        self, survey: Survey, resolved: Mapping[str, str], *, no_cache: bool = False
    ) -> Pipeline:
        """Return what turns a plan into jobs."""
        session = self.session
        return Pipeline(
            survey=survey,
            images=self.images(survey, resolved, no_cache=no_cache),
            target=session.target.name,
            tags=session.target.tags,
            lock=LockWriter(session.lock_path),
            generated=session.kept / "generated",
            manifests=self.manifests(),
            publisher=self.publisher,
            configs=self.configs(),
            digests=session.digests(),
            no_cache=no_cache,
            builder=session.target.builder,
            emit=session.emit,
            cancel=session.cancel,
            begun=self.begun(),
        )

    def begun(self) -> HeadStart:
        """Return the builds of images that have begun before the plan was made."""
        return self.session.once("begun", HeadStart)

    # --- publishing --------------------------------------------------------------------------

    def publisher(self) -> Publisher:
        """Return what publishes to the session's target. Raises NotAllowed, UsageError."""
        return self.session.once("publisher", self._publisher)

    def _publisher(self) -> Publisher:
        target = self.session.target
        if target.provider == "local":
            return self._local()
        self._check_trusted()
        return self._legacy() if target.api == "v1" else self._current()

    def _local(self) -> Publisher:
        from sandboxfile.targets.local import PATIENCE, LocalPublisher

        session = self.session
        return LocalPublisher(
            engine=self.engine(),
            data=app.data(self._environ, session.args.home),
            journal=session.journal_path,
            target=session.target,
            logins=self.login,
            emit=session.emit,
            cancel=session.cancel,
            patience=self._patience(PATIENCE),
        )

    def _legacy(self) -> Publisher:
        from sandboxfile.targets import novita_v1

        session = self.session
        if not session.target.registry:
            novita_v1.registry_host(session.target)  # raises when there is none
        return novita_v1.NovitaV1(
            service=self.service(),
            journal=self._journal(),
            registry=self.registry(),
            engine=self.engine,
            target=session.target,
            logins=self.login,
            emit=session.emit,
            known={name: entry.template_id for name, entry in session.entries().items()},
            patience=self._patience(Patience()),
        )

    def _current(self) -> Publisher:
        from sandboxfile.targets.novita_v3 import NovitaV3

        return NovitaV3(
            service=self.service(),
            journal=self._journal(),
            registry=self.registry(),
            engine=self.engine,
            target=self.session.target,
            logins=self.login,
            pulls=self.pull_credentials,
            emit=self.session.emit,
            patience=self._patience(Patience()),
        )

    def _journal(self) -> Journal:
        session = self.session
        return Journal.open(session.journal_path, emit=session.emit, cancel=session.cancel)

    def _patience(self, usual: Patience) -> Patience:
        """Return how long this run waits: what the target is like, and what was asked for."""
        target, args = self.session.target, self.session.args
        if target.provider != "local" and not account.is_ours(target.api_url or ""):
            usual = replace(usual, answer_most=usual.overall)
        limit = getattr(args, "timeout", None)
        return replace(
            usual,
            detach=getattr(args, "detach", False),
            leave_at=math.inf if limit is None else usual.clock() + limit,
        )

    def templates(self) -> TemplateService:
        """Return the service of any target; this machine's own is started for the session."""
        if self.session.target.provider != "local":
            return self.service()
        from sandboxfile.targets.local import LocalTemplates

        started = self.session.once(
            "local-templates",
            lambda: LocalTemplates(
                engine=self.engine(),
                data=app.data(self._environ, self.session.args.home),
                logins=self.login,
            ),
        )
        return started.service

    def service(self) -> TemplateService:
        """Return the service of a target that is not this machine. Raises NotAllowed."""
        return self.session.once("service", self._service)

    def _service(self) -> TemplateService:
        self._check_trusted()
        found = self._account()
        api_url = self.session.target.api_url
        assert api_url is not None
        return TemplateService(
            self.web(),
            api_url,
            key=found.key,
            token=found.token,
            key_source=found.source,
        )

    def _account(self) -> Account:
        """Return the account to publish with. Raises NotAllowed when there is none."""
        found = account.find(self._environ, self.session.args.home)
        if found is None:
            raise NotAllowed(
                f"no API key for target `{self.session.target.name}`",
                hint="set `NOVITA_API_KEY`, or build for this machine with `--target local`",
            )
        self.session.redactor.add(found.key, found.token)
        return found
