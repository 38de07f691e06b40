"""``stn shadow``: what a service says that rectification changed."""

from __future__ import annotations

import time

import numpy as np
import orjson
from stn_client import Client
from stn_command import Stn


def test_what_was_compared_is_shown(stn: Stn, gateway_url: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    with Client(gateway_url) as client:
        before = client.shadow()["images"]
        client.predict(digits[0][:50])
        while client.shadow()["images"] < before + 50:  # it happens after the answer
            time.sleep(0.01)
    shown = stn("shadow", "--url", gateway_url, "--json")
    found = orjson.loads(shown.stdout)
    assert (shown.status, found["share_of_requests"], found["images"]) == (0, 1.0, before + 50)
    table = stn("shadow", "--url", gateway_url).stdout
    assert f"{found['agreement']:.4f}" in table
    assert "look into these" in table
