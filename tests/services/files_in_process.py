"""Image files for the routes that take them, and a gateway in this process to send them to."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import httpx
import numpy as np
from gateway_in_process import client_of, make_links, make_settings
from http_calls import encoded

from services.settings import Settings
from stn_core.pictures import decode_picture

ROOMY = {"max_decoded_bytes": 1_000_000, "max_images": 70, "request_timeout_s": 300.0}


def digits_at_hand() -> np.ndarray:
    """A digit of each class, ``uint8 [10, 28, 28, 1]``: those of the recipes' previews."""
    strip = decode_picture((resources.files("services") / "digits.png").read_bytes(), channels=1)
    return np.stack(np.split(strip, 10, axis=1))


DIGITS = digits_at_hand()
FILES = [encoded(digit) for digit in DIGITS]


def gateway(engine: Any, links: dict[str, Any] | None = None, settings: Settings | None = None) -> httpx.AsyncClient:
    """A client of a gateway with room for many files; ``links`` take the place of its own stages."""
    settings = settings or make_settings(**ROOMY)
    return client_of(make_links(engine, settings) | (links or {}), settings)


def as_files(contents: Sequence[bytes], field: str = "image") -> dict[str, Any]:
    """A multipart body of these files, as keywords for httpx."""
    return {"files": [(field, (f"{number}.png", content)) for number, content in enumerate(contents)]}
