"""gRPC beside HTTP: the same requests to one service by the two kinds of the unmodified Triton client.

    make bench PARTS=protocols

Digits in uint8 go to ``predict``, of which all outputs come back; loads are called IMAGES x REQUESTS, so many requests
of so many images in flight. The client runs in a process of its own, and shares the cores with the service.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as asyncio_grpc
import tritonclient.http as over_http
import tritonclient.http.aio as asyncio_http
import yaml
from report import Comparison, results, show
from servers import REPOSITORY, service

from services.grpc_methods import ADD_TO_SERVER
from services.processes import free_ports
from stn_core.datasets import sample_digits

DEFAULTS = {"rounds": 5, "seconds": 5.0}
LOADS = ((1, 1), (64, 8))
KINDS = ("HTTP", "gRPC")
COMPARISONS = [Comparison(f"gRPC {images} x {requests}", f"HTTP {images} x {requests}") for images, requests in LOADS]
_WARM_UP_S = 1.0


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds an image of each protocol and load, and how they compare."""
    found: dict[str, list[float]] = defaultdict(list)
    (grpc_port,) = free_ports(1)
    config = yaml.safe_load((REPOSITORY / "deploy/embedded.yaml").read_text())
    config["grpc_options"] = {
        "port": grpc_port,
        "grpc_servicer_functions": [ADD_TO_SERVER],
        "enable_reflection": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.yaml"
        path.write_text(yaml.safe_dump(config))
        with service(path) as running:
            ports = dict(zip(KINDS, (running.port, grpc_port), strict=True))
            for number in range(rounds):
                for images, requests in LOADS:
                    for kind in KINDS[:: -1 if number % 2 else 1]:
                        plan = [kind, ports[kind], images, requests, seconds]
                        done = subprocess.run([sys.executable, __file__, json.dumps(plan)], stdout=-1, check=True)
                        found[f"{kind} {images} x {requests}"].append(float(done.stdout))
    part = results(found, COMPARISONS)
    show("Protocols", part)
    return part


async def _ask(kind: str, port: int, images: int, requests: int, seconds: float) -> float:
    """Microseconds an image, with so many requests in flight."""
    client, module = {"HTTP": (asyncio_http, over_http), "gRPC": (asyncio_grpc, over_grpc)}[kind]
    digits = sample_digits().images[:images]
    given = module.InferInput("images", list(digits.shape), "UINT8").set_data_from_numpy(digits)
    begins_s = time.perf_counter() + _WARM_UP_S
    ends_s, answered = begins_s + seconds, 0

    async with client.InferenceServerClient(f"127.0.0.1:{port}") as connected:

        async def one_after_another() -> None:
            nonlocal answered
            while (now_s := time.perf_counter()) < ends_s:
                result = await connected.infer("predict", [given])
                assert len(result.as_numpy("label")) == images
                answered += now_s >= begins_s

        await asyncio.gather(*(one_after_another() for _ in range(requests)))
    return 1e6 * (time.perf_counter() - begins_s) / (answered * images)


if __name__ == "__main__":
    print(asyncio.run(_ask(*json.loads(sys.argv[1]))))
