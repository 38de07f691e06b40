"""Changes to the service while it runs: another bundle, other replicas, other arguments; and back again.

A change is checked first, then asked of Serve, and then watched until all of it runs and answers; if it does not, the
service is changed back. Ray replaces processes only where arguments changed, new ones before old ones; numbers of
replicas change by themselves, and a bundle within the processes (``services/app.py``).
"""

import logging
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from services.deploy_config import IMPORT_PATH, read_deploy_config
from services.held import everywhere
from services.readiness import refusal, wait_until_ready
from services.settings import Settings
from services.stop_signals import StopFlag
from stn_core.bundle import read_manifest
from stn_core.errors import InvalidInput, StnError

logger = logging.getLogger("ray.serve")

Config = dict[str, Any]
_SERVER_OPTIONS = ("http_options", "grpc_options", "proxy_location")
"""What Serve takes once, when it starts."""


class Changes:
    """The configs that were served, the last one now; one change at a time.

    ``complete`` puts into another config what the launcher's own arguments say, ``apply`` asks Serve for it.
    """

    def __init__(
        self,
        config: Config,
        complete: Callable[[Config], None],
        apply: Callable[[Config], None],
        host: str,
        port: int,
        stopping: StopFlag,
    ) -> None:
        self._served = [config]
        self._complete, self._apply = complete, apply
        self._host, self._port, self._stopping = host, port, stopping
        self._lock = threading.Lock()

    def deploy(self, path: str | None, bundle: str | None, patience_s: float) -> str:
        """Serves the config at ``path``, or the present one, with ``bundle`` if one is named; says what is served.

        InvalidInput, before anything changes, for what cannot work; StnError if it failed, and was changed back.
        """
        with self._one_at_a_time():
            config = deepcopy(self._served[-1]) if path is None else self._read(path)
            for name in _SERVER_OPTIONS:
                config.pop(name, None)
                if name in self._served[-1]:
                    config[name] = self._served[-1][name]
            if bundle is not None:
                config = pinned(config, bundle)
            _check(config, self._served[-1])
            self._change(config, patience_s)
            self._served.append(config)
            return told(config)

    def rollback(self, patience_s: float) -> str:
        """Serves what was served before the last change; InvalidInput if there was none."""
        with self._one_at_a_time():
            if len(self._served) < 2:
                raise InvalidInput("rollback: nothing was deployed since the service started, so there is no way back")
            _check(self._served[-2], self._served[-1])
            self._change(self._served[-2], patience_s)
            self._served.pop()
            return told(self._served[-1])

    def _read(self, path: str) -> Config:
        config = read_deploy_config(path)
        self._complete(config)
        return pinned(config)

    def _one_at_a_time(self) -> "_Turn":
        return _Turn(self._lock)

    def _change(self, config: Config, patience_s: float) -> None:
        try:
            self._apply_and_wait(config, patience_s)
        except Exception as error:  # Ray's own among them: whatever it is, the way back is the same
            logger.error("a change failed, changing back: %s", error)
            self._apply_and_wait(self._served[-1], patience_s)
            raise StnError(f"the change failed and was taken back: {error}") from error

    def _apply_and_wait(self, config: Config, patience_s: float) -> None:
        self._apply(config)
        deadline_s = time.monotonic() + patience_s
        if not wait_until_ready(config, self._host, self._port, deadline_s, self._stopping, ("DEPLOY_FAILED",)):
            raise StnError("the service is being stopped")
        if (reason := refusal(config, self._host, self._port)) is not None:
            raise StnError(reason)


class _Turn:
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise InvalidInput("another change is under way; try again when it is over")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def pinned(config: Config, bundle: str | None = None) -> Config:
    """``config`` with the bundle of each application in its gateway's ``user_config``: ``bundle``, or as it says.

    Ray tells a replica of a ``user_config`` that changes, but not of one that is gone: so it is always there.
    """
    from services.app import gateway_name

    config = deepcopy(config)
    for application in _ours(config):
        settings = Settings.model_validate(application.get("args") or {})
        deployments = application["deployments"] = application.get("deployments") or []
        name = gateway_name(settings)
        gateway = next((one for one in deployments if one["name"] == name), None)
        if gateway is None:
            deployments.append(gateway := {"name": name})
        wanted = bundle or (gateway.get("user_config") or {}).get("bundle") or settings.bundle
        gateway["user_config"] = {"bundle": everywhere(wanted)}
    return config


def bundles(config: Config) -> list[str]:
    """The bundles that a pinned config serves."""
    found = (
        one["user_config"]["bundle"] for app in _ours(config) for one in app["deployments"] if "user_config" in one
    )
    return sorted(set(found))


def told(config: Config) -> str:
    """What a pinned config serves, in a line."""
    parts = []
    for source in bundles(config):
        manifest = read_manifest(source)
        parts.append(f"bundle {manifest.name}, version {manifest.version} ({source})")
    return ", ".join(parts)


def cpus_of(config: Config) -> float:
    """Logical CPUs that the smallest set of replicas asks for."""
    asked = 0.0
    for application in config["applications"]:
        for deployment in application.get("deployments") or ():
            replicas = (deployment.get("autoscaling_config") or {}).get(
                "min_replicas", deployment.get("num_replicas", 1)
            )
            cpus = (deployment.get("ray_actor_options") or {}).get("num_cpus")
            asked += (1 if cpus is None else cpus) * (replicas if isinstance(replicas, int) else 1)
    return asked


def _check(config: Config, served: Config) -> None:
    for source in bundles(config):
        read_manifest(source)
    import ray

    # New processes stand beside the old ones for a while, and would wait for ever where Ray has no room for them.
    replaced = [app for app, old in zip(_ours(config), _ours(served), strict=False) if _code_of(app) != _code_of(old)]
    asked = cpus_of(config) + (cpus_of(served) if replaced else 0.0)
    there = ray.cluster_resources().get("CPU", 0.0)
    if asked > there:
        beside = ", those that are replaced among them," if replaced else ""
        raise InvalidInput(
            f"the replicas{beside} ask for {asked:g} of Ray's CPUs, and it has {there:g}: lower num_cpus or "
            "num_replicas of the deployments, or stop the service and start it with this config"
        )


def _code_of(application: dict[str, Any]) -> list[Any]:
    """What new processes are needed for, if it changes."""
    options = [one.get("ray_actor_options") for one in application.get("deployments") or ()]
    return [application.get("args"), application.get("import_path"), application.get("runtime_env"), options]


def _ours(config: Config) -> list[dict[str, Any]]:
    return [one for one in config["applications"] if one.get("import_path") == IMPORT_PATH]
