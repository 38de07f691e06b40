"""Small files that unpack to much: refused by what they say of themselves, and read no further than that."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from stn_core import bundle
from stn_core.bundle import load_keras
from stn_core.datasets import archive
from stn_core.datasets.archive import read_arrays
from stn_core.errors import BadBundle, BadData


def test_a_network_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "{}" + " " * 4_000_000)
        file.writestr("model.weights.h5", bytes(4_000_000))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(bundle, "MAX_CONFIG_BYTES", 1_000_000)
    with pytest.raises(
        BadBundle, match="expected at most 1073741824 bytes unpacked, 1000000 of them config.json, got 8"
    ):
        load_keras(path)
    monkeypatch.setattr(bundle, "MAX_CONFIG_BYTES", 8_000_000)
    monkeypatch.setattr(bundle, "MAX_NETWORK_BYTES", 8_000_000)
    with pytest.raises(BadBundle, match="expected at most 8000000 bytes unpacked"):
        load_keras(path)


@pytest.mark.parametrize(
    "config", [b"[" * 100_000, b'{"class_name": ["Dense"]}', b"\xff", b'{"class_name": {"a": 1}, "module": "keras"}']
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, config: bytes) -> None:
    path = tmp_path / "odd.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", config)
    with pytest.raises(BadBundle, match="odd.keras"):
        load_keras(path)


def test_arrays_that_unpack_to_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((100, 100, 100), np.uint8))
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 900_000)
    with pytest.raises(BadData, match="expected arrays of at most 900000 bytes together, got 1000"):
        read_arrays(path)


def test_a_header_that_speaks_of_more_than_there_is_costs_nothing(tmp_path: Path) -> None:
    whole = tmp_path / "one.npy"
    np.save(whole, np.zeros((3, 4, 4), np.uint8))
    path = tmp_path / "lying.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "images.npy", whole.read_bytes().replace(b"(3, 4, 4), }" + b" " * 12, b"(3, 4, 4000000000000), }")
        )
    with pytest.raises(BadData, match="the array `images` cannot be read"):
        read_arrays(path)
