"""Fixtures of the gateway's tests."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, make_links, make_settings


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as client:
        yield client


@pytest.fixture
def images(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return digits[0][:3]
