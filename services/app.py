"""The Ray Serve application: ``serve run deploy/local.yaml`` calls ``build``; thin shells around plain classes."""

# No "from __future__ import annotations" here: Ray reads the annotation of build's argument to validate a config.

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve._private.constants import RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD

from services.admission import Admission, admitted
from services.batching import Columns, MicroBatcher
from services.channel import Address, Listener
from services.collecting import gateway_samples, stage_samples
from services.grpc_methods import GrpcMethods
from services.keys import read_keys
from services.links import LocalLink, RemoteLink, local_links
from services.origin import from_travel, origins, told_ids
from services.ports import bind_replica
from services.replica import board, observe
from services.settings import Placement, Settings
from services.stages import Operation, make_stages
from stn_core.bundle import find_bundle, read_manifest
from stn_core.errors import StnError

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
        stage_settings = settings.stages[name]
        stages = await asyncio.to_thread(make_stages, (name,), settings.bundle, settings.engine, stage_settings.threads)
        self._name = name
        observe(settings.observability)
        link = LocalLink(stages[name], stage_settings)
        self._batcher = MicroBatcher(link.call, stage_settings)
        self._board = board(lambda: stage_samples(name, link, self._batcher))
        # Where the number of replicas follows the calls under way, Ray must see each of them.
        self._address: Address | None = None
        if serve.get_replica_context()._deployment_config.autoscaling_config is None:
            self._address = await Listener(self.run).listen(ray.util.get_node_ip_address())

    async def run(
        self, operation: Operation, columns: Columns, requests: Sequence[Sequence[str]] | None = None
    ) -> Columns:
        """The result of ``operation`` on ``columns``; only errors of our own tree leave, which survive pickling.

        ``requests``: those that the batch is made of, if it came by a handle.
        """
        if requests is not None:
            origins.set(from_travel(requests))
        try:
            return await self._batcher.submit(operation, columns, operation.result_bytes)
        except StnError:
            raise
        except Exception:
            logger.exception("%s failed in the %s, for the requests %s", operation.name, self._name, told_ids())
            raise StnError(f"the {self._name} failed; its log has the reason") from None

    async def address(self) -> Address | None:
        """Where this replica listens for batches; None if they are to come by handles alone."""
        return self._address

    async def ready(self) -> bool:
        """True: a replica takes calls only after its stage is warm."""
        return True


class GatewayReplica(GrpcMethods):
    """The side that clients speak to: routes, batching, and the stages placed in its process."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: Settings, handles: dict[str, Any]
    ) -> None:
        bind_replica()
        links = await asyncio.to_thread(local_links, settings)
        timeout_s = settings.limits.request_timeout_s
        for name, handle in handles.items():
            links[name] = RemoteLink(name, handle, timeout_s, settings.readiness_timeout_s)
        observe(settings.observability)
        self._settings = settings
        self._links = links
        self._admission = Admission(settings.access)

    def __serve_build_asgi_app__(self) -> Any:
        from services.gateway import Gateway
        from services.middleware import ShortCut
        from services.pipelines import Pipelines

        pipelines = Pipelines(self._settings, self._links, read_manifest(self._settings.bundle))
        self.offer_grpc(pipelines, self._settings, self._admission)
        gateway = Gateway(pipelines, self._settings, board(lambda: gateway_samples(pipelines)))
        app = admitted(gateway.asgi_app(), self._admission)
        if not self._admission.is_off:
            ShortCut.admission, ShortCut.door = self._admission, gateway.watched(app)
        # Where the number of replicas follows the requests under way, Ray must see each of them; where our code has an
        # event loop of its own, Ray alone brings them there.
        autoscaling = serve.get_replica_context()._deployment_config.autoscaling_config
        if autoscaling is None and not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
            ShortCut.gateway, GrpcMethods.here = gateway.watched(app), self
        return gateway.watched(app, answers_id=False)


def gateway_name(settings: Settings) -> str:
    """What the deployment that speaks HTTP is called: after the stage that is its main work."""
    if settings.rectifier.placement is Placement.DEPLOYMENT:
        return "Gateway"
    return "Rectifier" if settings.classifier.placement is Placement.DEPLOYMENT else "Service"


def build(args: Settings) -> Application:
    """The application that ``args`` describe: one deployment for HTTP and one for each stage placed by itself."""
    if find_bundle(args.bundle) == Path(args.bundle):  # a path, which must mean the same in every process
        args = args.model_copy(update={"bundle": str(Path(args.bundle).resolve())})
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
