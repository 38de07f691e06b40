from __future__ import annotations

import pytest

from stn_core.datasets import Dataset, sample_digits


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """5,000 real MNIST digits, 28 x 28."""
    return sample_digits()
