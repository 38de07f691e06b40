"""Bundles made to do harm: none of them runs code, reads another file or fills the memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest

from stn_core.bundle import find_bundle, load_network, read_manifest, sha256_of
from stn_core.engine import Engine
from stn_core.errors import BadBundle

SECRET = b"root:x:0:0 and so on"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped bundle beside a file that is none of its business."""
    (tmp_path / "secret").write_bytes(SECRET)
    return Path(shutil.copytree(find_bundle("digits"), tmp_path / "digits"))


def sign(bundle: Path, **files: str | None) -> None:
    """Writes the manifest anew as whoever made the bundle could: with the sums of its files, and ``files``."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"] = {name: sha256_of(bundle / name) for name in manifest["files"]} | files
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def refused(bundle: Path, message: str) -> None:
    """The networks of ``bundle``, whose sums are right, are refused."""
    sign(bundle)
    read_manifest(bundle)
    with pytest.raises(BadBundle, match=message) as caught:
        load_network(bundle, "classifier")
    assert "\n" not in str(caught.value)


def change_members(bundle: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    path = bundle / "classifier.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class Harm:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._mark),)


def test_a_pickle_for_a_network_is_refused_unread(bundle: Path, tmp_path: Path) -> None:
    (bundle / "classifier.keras").write_bytes(pickle.dumps(Harm(tmp_path / "mark")))
    refused(bundle, "expected a .keras file saved by tf_keras, got something else")
    assert not (tmp_path / "mark").exists()


def test_weights_that_would_be_unpickled_are_refused_unread(bundle: Path, tmp_path: Path) -> None:
    """Keras reads weights as an npz too, which can hold pickles."""

    def change(members: dict[str, bytes]) -> None:
        del members["model.weights.h5"]
        content = io.BytesIO()
        np.savez(content, __root__=np.array([Harm(tmp_path / "mark")], object), allow_pickle=True)
        members["model.weights.npz"] = content.getvalue()

    change_members(bundle, change)
    refused(bundle, r"expected metadata.json, config.json, model.weights.h5 in it, each once, got 'model.weights.npz'")
    assert not (tmp_path / "mark").exists()


def test_members_that_lead_out_of_the_folder_are_refused(bundle: Path, tmp_path: Path) -> None:
    change_members(bundle, lambda members: members.update({"../../escaped": b"x"}))
    refused(bundle, r"got '../../escaped'")
    assert not list(tmp_path.parent.rglob("escaped"))


@pytest.mark.parametrize("way", ["external link", "soft link", "external data", "virtual data"])
def test_weights_that_lie_in_another_file_are_refused(bundle: Path, tmp_path: Path, way: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as weights:
            group = weights.create_group("harmless/inside")
            if way == "external link":
                group["w"] = h5py.ExternalLink(str(tmp_path / "secret"), "/")
            elif way == "soft link":
                group["w"] = h5py.SoftLink("/elsewhere")
            elif way == "external data":
                group.create_dataset("w", (4,), "uint8", external=[(str(tmp_path / "secret"), 0, 4)])
            else:
                layout = h5py.VirtualLayout((4,), "uint8")
                layout[:] = h5py.VirtualSource(str(tmp_path / "secret"), "w", (4,))
                group.create_virtual_dataset("w", layout)
        members["model.weights.h5"] = content.getvalue()

    change_members(bundle, change)
    refused(bundle, "the weights 'w' lie elsewhere")


def test_weights_that_are_no_weights_are_refused(bundle: Path) -> None:
    change_members(bundle, lambda members: members.update({"model.weights.h5": b"not HDF5"}))
    refused(bundle, "expected weights in HDF5, got something else")


def test_links_in_a_circle_do_not_hang(bundle: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as weights:
            weights["around"] = weights["/"]
        members["model.weights.h5"] = content.getvalue()

    change_members(bundle, change)
    sign(bundle)
    assert load_network(bundle, "classifier").count_params() == 60_074


def test_a_saved_model_is_no_file_and_refused(bundle: Path) -> None:
    (bundle / "classifier.keras").unlink()
    folder = bundle / "classifier.keras"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(BadBundle, match="classifier.keras is missing"):
        read_manifest(bundle)
    shutil.rmtree(folder)


def test_a_folder_with_ops_beside_the_files_is_refused(bundle: Path) -> None:
    (bundle / "saved_model").mkdir()
    (bundle / "saved_model/saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(BadBundle, match="saved_model is not in the manifest; a bundle holds nothing else"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b.keras", "..", "", "x\0y"])
def test_a_manifest_that_names_files_elsewhere_is_refused(bundle: Path, name: str) -> None:
    sign(bundle, **{name: "0" * 64})
    with pytest.raises(BadBundle, match="files"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["classifier.keras", "localization.onnx", "metrics.json"])
def test_a_link_to_another_file_is_refused_though_its_sum_is_right(bundle: Path, name: str) -> None:
    (bundle.parent / "elsewhere").write_bytes((bundle / name).read_bytes())
    (bundle / name).unlink()
    (bundle / name).symlink_to("../elsewhere")
    with pytest.raises(BadBundle, match=f"{name} is missing"):
        read_manifest(bundle)


def onnx_refused(bundle: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(bundle / "classifier.onnx", load_external_data=False)
    change(model)
    (bundle / "classifier.onnx").write_bytes(model.SerializeToString())
    sign(bundle)
    with pytest.raises(BadBundle, match="classifier.onnx does not load") as caught:
        Engine.load(bundle, backend="onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "metrics.json"])
def test_weights_of_onnx_in_another_file_are_refused_even_in_the_bundle(bundle: Path, location: str) -> None:
    def change(model: Any) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", location

    onnx_refused(bundle, change)


def test_operations_of_a_domain_of_their_own_are_refused(bundle: Path) -> None:
    def change(model: Any) -> None:
        model.graph.node[0].domain = "com.example.harm"
        model.opset_import.append(onnx.helper.make_opsetid("com.example.harm", 1))

    onnx_refused(bundle, change)
