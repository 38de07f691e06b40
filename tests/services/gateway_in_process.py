"""A gateway in this process, with the real stages over the shipped bundle, and small limits."""

from typing import Any

import httpx
import numpy as np
from http_calls import binary

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


def client_of(links: dict[str, StageLink], settings: Settings, manifest: Manifest | None = None) -> httpx.AsyncClient:
    pipelines = Pipelines(settings, links, manifest or read_manifest("digits"))
    transport = httpx.ASGITransport(Gateway(pipelines, settings).asgi_app(), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def infer(http: httpx.AsyncClient, model: str, inputs: dict[str, np.ndarray], **options: Any) -> httpx.Response:
    return await http.post(f"/v2/models/{model}/infer", **binary(inputs, **options))
