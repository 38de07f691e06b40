"""The bundles that one process holds: a change loads the new one beside the old one, and no batch sees two of them.

The gateway names, with each batch that leaves its process, the bundle that it answers by. A stage in another process
keeps those that it was asked for last, and loads one that it has not: so it serves gateways that have changed and those
that have not yet, each with the bundle it means, and there is no order in which the processes must change.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from services.batching import Columns
from services.collecting import work_samples
from services.links import LocalLink, StageLink
from services.metrics import Samples
from services.settings import Settings, UserConfig
from services.stages import BundleId, Operation, make_stages
from stn_core.bundle import find_bundle, manifest_sha256
from stn_core.errors import BadBundle

T = TypeVar("T")

logger = logging.getLogger("ray.serve")

_MOST_HELD = 3
"""The one that is served, the one before, and one to come."""


def everywhere(source: str) -> str:
    """The same bundle as every process finds it, whatever folder it runs in; BadBundle if there is none."""
    return str(Path(source).resolve()) if find_bundle(source) == Path(source) else source


def identify(source: str) -> BundleId:
    """Which bundle lies at ``source``, a path or a shipped name; BadBundle if none does."""
    return BundleId(source, manifest_sha256(source))


def load_whole(source: str, load: Callable[[BundleId], T], sha256: str | None = None) -> T:
    """What ``load`` makes of the bundle at ``source``; BadBundle if its files are not of ``sha256``, or change."""
    bundle = identify(source)
    if sha256 not in (None, bundle.sha256):
        raise BadBundle(
            f"bundle {source}: its files have changed since it was deployed; give each version a folder of its own, "
            "and deploy that"
        )
    loaded = load(bundle)
    if identify(source) != bundle:
        raise BadBundle(f"bundle {source}: its files changed while it was loaded; deploy it again when they are whole")
    return loaded


class HeldStages:
    """One stage by bundle, as links to it; belongs to one event loop."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._settings = name, settings
        self._links: dict[str, LocalLink] = {}
        self.counted = Samples()
        """By the bundles that are held no longer."""
        self._first: BundleId | None = None
        self._loading = asyncio.Lock()

    async def load_first(self) -> None:
        """Loads the settings' bundle, which is meant where an operation names none."""
        self._first = await asyncio.to_thread(identify, self._settings.bundle)
        await self.link(self._first)

    async def link(self, bundle: BundleId | None) -> LocalLink:
        """The link to the stage of ``bundle``, which is loaded first if it is not there; BadBundle if that fails."""
        bundle = bundle or self._first
        assert bundle is not None
        if bundle.sha256 not in self._links:
            async with self._loading:
                if bundle.sha256 not in self._links:
                    self._links[bundle.sha256] = await asyncio.to_thread(self._load, bundle)
        found = self._links[bundle.sha256] = self._links.pop(bundle.sha256)  # now the last one, which goes last
        while len(self._links) > _MOST_HELD:
            dropped = self._links.pop(next(iter(self._links)))  # batches under way keep it alive until they end
            self.counted.add(work_samples(self._name, dropped).lasting())
        return found

    @property
    def links(self) -> list[LocalLink]:
        return list(self._links.values())

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        return await (await self.link(operation.bundle)).call(operation, columns)

    def _load(self, bundle: BundleId) -> LocalLink:
        stage_settings = self._settings.stages[self._name]

        def load(found: BundleId) -> LocalLink:
            stages = make_stages((self._name,), found.source, self._settings.engine, stage_settings.threads)
            return LocalLink(stages[self._name], stage_settings)

        return load_whole(bundle.source, load, bundle.sha256)


class OfBundle:
    """A stage in another process, asked to work by one bundle."""

    def __init__(self, link: StageLink, bundle: BundleId) -> None:
        self._link, self._bundle = link, bundle

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        return await self._link.call(operation._replace(bundle=self._bundle), columns)

    async def ready(self) -> bool:
        return await self._link.ready()


def wanted_bundle(user_config: Any, settings: Settings) -> str:
    """The bundle to serve: the one in the deployment's ``user_config``, else the settings' own."""
    return UserConfig.model_validate(user_config or {}).bundle or settings.bundle
