"""The Ray Serve application: ``serve run deploy/local.yaml`` calls ``build``; thin shells around plain classes."""

# No "from __future__ import annotations" here: Ray reads the annotation of build's argument to validate a config.

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import ray
from ray import serve
from ray.serve import Application
from ray.serve._private.constants import RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD

from services.admission import Admission, admitted
from services.batching import Columns, MicroBatcher
from services.channel import Address, Listener
from services.collecting import gateway_samples, stage_samples
from services.grpc_methods import GrpcMethods
from services.held import HeldStages, OfBundle, everywhere, identify, load_whole, wanted_bundle
from services.keys import read_keys
from services.links import RemoteLink, local_links
from services.metrics import Samples
from services.origin import from_travel, origins, told_ids
from services.ports import bind_replica
from services.replica import board, observe
from services.settings import Placement, Settings
from services.stages import BundleId, Operation
from stn_core.bundle import read_manifest
from stn_core.errors import StnError

if TYPE_CHECKING:
    from services.gateway import Gateway
    from services.pipelines import Pipelines

T = TypeVar("T")

logger = logging.getLogger("ray.serve")

# What a deployment has unless the config's "deployments:" says otherwise.
_GATEWAY_OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 2048,
    "max_surge_percent": 100,
    "ray_actor_options": {"num_cpus": 0.5},
}
_STAGE_OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 64,
    "max_surge_percent": 100,
    "ray_actor_options": {"num_cpus": 0.4},
}


class StageReplica:
    """One stage in a process of its own; several gateways' batches share its batches."""

    async def __init__(self, name: str, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        bind_replica()
        self._name, self._settings = name, settings
        observe(settings.observability)
        self._held = HeldStages(name, settings)
        await self._held.load_first()
        self._batcher = MicroBatcher(self._held.call, settings.stages[name])
        self._board = board(lambda: stage_samples(name, self._held, self._batcher))
        # Where the number of replicas follows the calls under way, Ray must see each of them.
        self._address: Address | None = None
        if serve.get_replica_context()._deployment_config.autoscaling_config is None:
            self._address = await Listener(self.run).listen(ray.util.get_node_ip_address())

    async def reconfigure(self, user_config: Any) -> None:
        """Loads a bundle ahead of the gateway, which alone says by which one its batches are answered."""
        try:
            await self._held.link(await asyncio.to_thread(identify, wanted_bundle(user_config, self._settings)))
        except Exception as error:
            logger.error("the %s did not load what user_config names: %s", self._name, error)

    async def prepare(self, bundle: BundleId) -> None:
        """Loads ``bundle``; BadBundle says why if that fails."""
        await self._typed("loading a bundle", self._held.link(bundle))

    async def run(
        self, operation: Operation, columns: Columns, requests: Sequence[Sequence[str]] | None = None
    ) -> Columns:
        """The result of ``operation`` on ``columns``; only errors of our own tree leave, which survive pickling.

        ``requests``: those that the batch is made of, if it came by a handle.
        """
        if requests is not None:
            origins.set(from_travel(requests))
        return await self._typed(operation.name, self._run(operation, columns))

    async def _run(self, operation: Operation, columns: Columns) -> Columns:
        await self._held.link(operation.bundle)  # here, where its loading holds up no batch of another one
        return await self._batcher.submit(operation, columns, operation.result_bytes)

    async def _typed(self, what: str, work: Awaitable[T]) -> T:
        try:
            return await work
        except StnError:
            raise
        except Exception:
            logger.exception("%s failed in the %s, for the requests %s", what, self._name, told_ids())
            raise StnError(f"the {self._name} failed; its log has the reason") from None

    async def address(self) -> Address | None:
        """Where this replica listens for batches; None if they are to come by handles alone."""
        return self._address

    async def ready(self) -> bool:
        """True: a replica takes calls only after its stage is warm."""
        return True


class GatewayReplica(GrpcMethods):
    """The side that clients speak to: routes, batching, and the stages placed in its process.

    All of it belongs to one bundle. Another one is loaded beside it, and then takes its place by one assignment:
    requests under way end as they began.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: Settings, handles: dict[str, Any]
    ) -> None:
        bind_replica()
        timeout_s = settings.limits.request_timeout_s
        observe(settings.observability)
        self._settings = settings
        self._admission = Admission(settings.access)
        self._remote = {
            name: RemoteLink(name, handle, timeout_s, settings.readiness_timeout_s) for name, handle in handles.items()
        }
        self._changing = asyncio.Lock()
        self._counted = Samples()
        self._board = board(self._samples)
        try:
            wanted = wanted_bundle(serve.get_replica_context()._deployment_config.user_config, settings)
            self._served = await asyncio.to_thread(self._load, wanted)
        except Exception as error:
            self._served = await asyncio.to_thread(self._load, settings.bundle)
            self._refuse(error)

    async def reconfigure(self, user_config: Any) -> None:
        """Serves the bundle that ``user_config`` names; if it is broken, what was served is served on.

        Raises nothing, for Ray would end the replica.
        """
        async with self._changing:
            try:
                source = wanted_bundle(user_config, self._settings)
                wanted = await asyncio.to_thread(identify, source)
                if wanted.sha256 != self._served.bundle.sha256:
                    loaded = await asyncio.to_thread(self._load, source)
                    for link in self._remote.values():
                        await link.prepare(loaded.bundle)
                    self._serve(loaded)
                self._served.pipelines.refused = None
            except Exception as error:
                self._refuse(error)

    def __serve_build_asgi_app__(self) -> Any:
        from services.middleware import ShortCut

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self._served.app(scope, receive, send)

        async def short_cut(scope: Any, receive: Any, send: Any) -> None:
            await self._served.short_cut(scope, receive, send)

        self._serve(self._served)
        ShortCut.watched = self._watched
        if not self._admission.is_off:
            ShortCut.admission, ShortCut.door = self._admission, short_cut
        # Where the number of replicas follows the requests under way, Ray must see each of them; where our code has an
        # event loop of its own, Ray alone brings them there.
        autoscaling = serve.get_replica_context()._deployment_config.autoscaling_config
        if autoscaling is None and not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
            ShortCut.gateway, GrpcMethods.here = short_cut, self
        return app

    def _watched(self, app: Any) -> Any:
        return self._served.gateway.watched(app)

    def _load(self, source: str) -> "_Served":
        from services.gateway import Gateway
        from services.pipelines import Pipelines

        def load(bundle: BundleId) -> _Served:
            settings = self._settings.model_copy(update={"bundle": bundle.source})
            links = local_links(settings) | {name: OfBundle(link, bundle) for name, link in self._remote.items()}
            pipelines = Pipelines(settings, links, read_manifest(bundle.source))
            gateway = Gateway(pipelines, settings, self._board, bundle.sha256)
            app = admitted(gateway.asgi_app(), self._admission)
            return _Served(bundle, pipelines, gateway, gateway.watched(app, answers_id=False), gateway.watched(app))

        return load_whole(source, load)

    def _serve(self, loaded: "_Served") -> None:
        if loaded is not self._served:  # what was counted stays
            self._counted.add(gateway_samples(self._served.pipelines).lasting())
        self._served = loaded
        self.offer_grpc(loaded.pipelines, self._settings, self._admission)

    def _samples(self) -> Samples:
        samples = Samples()
        samples.add(self._counted)
        if hasattr(self, "_served"):  # the board asks from the start, while the first bundle is loaded
            samples.add(gateway_samples(self._served.pipelines))
        return samples

    def _refuse(self, error: Exception) -> None:
        self._served.pipelines.refused = str(error)
        logger.error(
            "the bundle that user_config names is refused, %s is served: %s", self._served.bundle.source, error
        )


class _Served(NamedTuple):
    """All that a gateway has of one bundle."""

    bundle: BundleId
    pipelines: "Pipelines"
    gateway: "Gateway"
    app: Any
    """What Ray calls."""
    short_cut: Any
    """What is called past Ray."""


def gateway_name(settings: Settings) -> str:
    """What the deployment that speaks HTTP is called: after the stage that is its main work."""
    if settings.rectifier.placement is Placement.DEPLOYMENT:
        return "Gateway"
    return "Rectifier" if settings.classifier.placement is Placement.DEPLOYMENT else "Service"


def build(args: Settings) -> Application:
    """The application that ``args`` describe: one deployment for HTTP and one for each stage placed by itself."""
    args = args.model_copy(update={"bundle": everywhere(args.bundle)})
    read_manifest(args.bundle)  # refuses a broken bundle before any replica starts
    if args.access.keys_file is not None:
        keys_file = Path(args.access.keys_file).resolve()
        read_keys(keys_file)  # and a broken file of keys
        args = args.model_copy(update={"access": args.access.model_copy(update={"keys_file": str(keys_file)})})
    handles = {
        name: serve.deployment(name=name.capitalize(), **_STAGE_OPTIONS)(StageReplica).bind(name, args)
        for name, stage in args.stages.items()
        if stage.placement is Placement.DEPLOYMENT
    }
    gateway = serve.deployment(name=gateway_name(args), **_GATEWAY_OPTIONS)(serve.ingress()(GatewayReplica))
    return gateway.bind(args, handles)
