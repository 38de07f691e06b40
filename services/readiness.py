"""Whether what was deployed runs and answers; asked from the launcher's process, by Ray and over HTTP."""

import http.client
import time
from typing import Any

import orjson

from services.deploy_config import IMPORT_PATH
from services.grpc_options import grpc_answers
from services.stop_signals import StopFlag
from stn_core.errors import StnError, TimedOut

_POLL_S = 0.2
_HIDDEN_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where "all interfaces" is reached from this machine


def wait_until_ready(
    config: dict[str, Any],
    host: str,
    port: int,
    deadline_s: float,
    stopping: StopFlag,
    failures: tuple[str, ...] = ("DEPLOY_FAILED", "UNHEALTHY"),
) -> bool:
    """True when every application answers, False when asked to stop before; StnError with one of ``failures``."""
    from ray import serve

    while not stopping.is_set():
        applications = serve.status().applications
        for name, application in applications.items():
            if application.status in failures:
                raise StnError(f"application {name} did not start: {_reason(application)}")
        running = applications and all(application.status == "RUNNING" for application in applications.values())
        answers = running and all(_answers(host, port, application) for application in config["applications"])
        if answers and grpc_answers(config, _HIDDEN_HOSTS.get(host, host)):
            return True
        if time.monotonic() > deadline_s:
            waiting = [f"{name} is {application.status}" for name, application in applications.items()]
            raise TimedOut(f"the service did not get ready in time: {', '.join(waiting)}")
        stopping.wait(_POLL_S)
    return False


def _reason(application: Any) -> str:
    """What Serve knows of a failed start, with the end of each failed replica's traceback."""
    messages = [application.message, *(part.message for part in application.deployments.values())]
    return "\n".join(message.strip() for message in messages if message and message.strip())


def refusal(config: dict[str, Any], host: str, port: int) -> str | None:
    """Why a gateway serves on what it served before, if the one that is asked does."""
    for application in config["applications"]:
        status, body = _get(host, port, application, "/v2/health/ready")
        if status == 200 and orjson.loads(body).get("refused"):
            status, body = _get(host, port, application, "/v2")  # for which a key may be asked
            why = orjson.loads(body).get("refused") if status == 200 else None
            return why or "the bundle that was deployed is refused; the service's log has the reason"
    return None


def _answers(host: str, port: int, application: dict[str, Any]) -> bool:
    return _get(host, port, application, "/v2/health/ready")[0] == 200


def _get(host: str, port: int, application: dict[str, Any], path: str) -> tuple[int, bytes]:
    """Status and body; 0 where nobody answers, and 200 with no JSON's fields of an application that is not ours."""
    if application.get("import_path") != IMPORT_PATH:
        return 200, b"{}"
    prefix = (application.get("route_prefix") or "/").rstrip("/")
    connection = http.client.HTTPConnection(_HIDDEN_HOSTS.get(host, host), port, timeout=5)
    try:
        connection.request("GET", prefix + path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def address_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
