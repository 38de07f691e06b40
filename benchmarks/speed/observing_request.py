"""Processor time of requests to a gateway in this process, whose settings' ``observability`` is the argument, as JSON.

    python observing_request.py '{"log_requests": true}'

One image a request, 32 at a time, without sockets, processes or Ray: what is left is the work on a request, which does
not depend on who else uses the machine as its rate would. Prints microseconds a request, one figure a round.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from services.gateway import make_app
from services.links import local_links
from services.settings import Settings
from stn_core.datasets import sample_digits
from stn_core.wire import encode_request

AT_ONCE, REQUESTS, ROUNDS = 32, 40, 10


async def measure(app: Any) -> list[float]:
    message = encode_request({"images": np.ascontiguousarray(sample_digits().images[:1])}, ("label", "probabilities"))
    headers = [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    headers += [(b"host", b"127.0.0.1"), (b"content-length", str(len(message.body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/v2/models/predict/infer", "root_path": "", "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": message.body, "more_body": False}

    async def ask(count: int) -> None:
        for _ in range(count):
            came: list[dict[str, Any]] = []

            async def send(part: dict[str, Any], came: list[dict[str, Any]] = came) -> None:
                came.append(part)

            await app({**scope, "headers": headers}, receive, send)
            assert came[0]["status"] == 200

    async def ask_at_once() -> None:
        await asyncio.gather(*(ask(REQUESTS) for _ in range(AT_ONCE)))

    await ask_at_once()
    gc.collect()
    gc.freeze()  # as Ray does in its replicas
    found = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        await ask_at_once()
        found.append(1e6 * (time.process_time() - began_s) / (AT_ONCE * REQUESTS))
    return found


def main() -> None:
    observability = json.loads(sys.argv[1])
    given: dict[str, Any] = {"classifier": {"placement": "gateway"}}
    settings = Settings.model_validate(given | ({"observability": observability} if observability else {}))
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("services.request_log") is not None:  # which a checkout from before has not
            from services.request_log import write_to
            from services.tracing import start_tracing

            write_to(Path(folder), "measured")
            start_tracing(settings.observability, Path(folder), "measured")
        app = make_app(settings, local_links(settings))
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        print(json.dumps(asyncio.run(measure(app))))


if __name__ == "__main__":
    main()
