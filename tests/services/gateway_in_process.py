"""A gateway in this process, with the real stages over the shipped bundle, and small limits."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import uvicorn
from http_calls import binary
from starlette.applications import Starlette
from starlette.routing import Mount

from services.gateway import Gateway
from services.links import LocalLink, StageLink
from services.pipelines import Pipelines
from services.settings import Settings
from services.stages import AugmentStage, ClassifyStage, RectifyStage
from stn_core.bundle import Manifest, read_manifest

IDENTITY = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1))
RECIPE = {"recipe": "tutorial-mix", "seed": 0}
LIMITS = {"max_request_bytes": 100_000, "max_images": 50, "max_json_bytes": 90_000, "max_decoded_bytes": 120_000}


def make_settings(**limits: Any) -> Settings:
    return Settings.model_validate(
        {
            "classifier": {"placement": "gateway"},
            "limits": {**LIMITS, "max_pixels_per_image": 10_000, **limits},
        }
    )


def make_links(engine: Any, settings: Settings) -> dict[str, StageLink]:
    manifest = engine.manifest
    return {
        "rectifier": LocalLink(RectifyStage(engine), settings.rectifier),
        "classifier": LocalLink(ClassifyStage(engine), settings.classifier),
        "augmenter": LocalLink(AugmentStage(manifest.input_shape, manifest.recipe), settings.augmenter),
    }


def gateway_of(links: dict[str, StageLink], settings: Settings, manifest: Manifest | None = None) -> Gateway:
    return Gateway(Pipelines(settings, links, manifest or read_manifest("digits")), settings)


def client_of(links: dict[str, StageLink], settings: Settings, manifest: Manifest | None = None) -> httpx.AsyncClient:
    gateway = gateway_of(links, settings, manifest)
    app = gateway.watched(gateway.asgi_app())
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@contextlib.contextmanager
def on_a_socket(gateway: Gateway, prefix: str = "") -> Iterator[str]:
    """The address, host:port, at which uvicorn serves ``gateway`` in a thread of its own, below ``prefix``."""
    app = Starlette(routes=[Mount(prefix, gateway.asgi_app())]) if prefix else gateway.asgi_app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "uvicorn did not start"
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


async def infer(http: httpx.AsyncClient, model: str, inputs: dict[str, np.ndarray], **options: Any) -> httpx.Response:
    return await http.post(f"/v2/models/{model}/infer", **binary(inputs, **options))
