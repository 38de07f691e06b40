from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras

from stn_core.bundle import _is_trusted, find_bundle, load_network, read_manifest, write_bundle
from stn_core.classifiers import build_classifier
from stn_core.errors import BadBundle
from stn_core.layers import SpatialTransformer
from stn_core.localization import build_localization
from stn_core.recipes import load_recipe


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped bundle, to be broken."""
    return Path(shutil.copytree(find_bundle("digits"), tmp_path / "digits"))


def _edit(bundle: Path, **changes: Any) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest.update(changes)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_the_shipped_bundle_is_whole_small_and_what_it_says() -> None:
    manifest = read_manifest("digits")
    assert manifest.input_shape == (28, 28, 1)
    assert manifest.classes == [str(digit) for digit in range(10)]
    assert manifest.recipe == load_recipe("tutorial-mix")
    assert load_network("digits", "classifier").count_params() == 60_074
    assert sum(file.stat().st_size for file in find_bundle("digits").iterdir()) < 3_000_000


@pytest.mark.parametrize(
    ("changes", "rectified_shape", "theta_shape"),
    [
        ({}, (28, 28, 1), (2, 3)),
        ({"transform": "attention", "passes": 3, "rectified_size": [28, 28]}, (28, 28, 1), (2, 3)),
        ({"transform": "homography", "rectified_size": [20, 14]}, (20, 14, 1), (3, 3)),
        ({"transform": "tps"}, (28, 28, 1), (16, 2)),
    ],
)
def test_a_manifest_says_what_comes_out(
    bundle: Path, changes: Any, rectified_shape: tuple[int, ...], theta_shape: tuple[int, int]
) -> None:
    _edit(bundle, **changes)
    manifest = read_manifest(bundle)
    assert manifest.input_shape == (28, 28, 1)
    assert (manifest.rectified_shape, manifest.theta_shape) == (rectified_shape, theta_shape)


def test_written_and_read_it_says_the_same(tmp_path: Path) -> None:
    networks = {
        "localization": build_localization("dense", (20, 24, 3)),
        "classifier": build_classifier("fc", (20, 24, 3), 3),
    }
    written = write_bundle(
        tmp_path / "b",
        networks,
        {"test": {"accuracy": 0.5}},
        name="shapes",
        created="2026-01-01",
        input_shape=(20, 24, 3),
        classes=["a", "b", "c"],
        recipe=load_recipe("rotation"),
    )
    assert read_manifest(tmp_path / "b") == written
    images = np.random.default_rng(0).random((4, 20, 24, 3)).astype(np.float32)
    loaded = load_network(tmp_path / "b", "classifier")
    np.testing.assert_array_equal(loaded(images).numpy(), networks["classifier"](images).numpy())


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadBundle, match="holds something that is not a bundle"):
        write_bundle(tmp_path, {}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["localization.keras", "classifier.keras", "metrics.json"])
def test_a_changed_or_missing_file_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BadBundle, match=f"{name} is not the file the manifest describes"):
        read_manifest(bundle)
    (bundle / name).unlink()
    with pytest.raises(BadBundle, match=f"{name} is missing"):
        read_manifest(bundle)


def test_a_file_that_the_manifest_does_not_name_is_refused(bundle: Path) -> None:
    (bundle / "evil.py").write_text("")
    with pytest.raises(BadBundle, match=r"evil\.py is not in the manifest"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "expected format_version 1, got 99"),
        ({"input_shape": [28, 28]}, "input_shape"),
        ({"classes": ["one"]}, "classes"),
        ({"recipe": {"name": "x", "steps": [{"op": "nonsense"}]}}, "recipe"),
        ({"surprise": 1}, "surprise"),
        ({"convention": "align_corners"}, "convention"),
        ({"transform": "rigid"}, "transform"),
        ({"passes": 0}, "passes"),
        ({"passes": 2, "transform": "tps"}, "more than one needs a transform that composes"),
        ({"passes": 2, "rectified_size": [14, 14]}, "and images that keep their size"),
        ({"rectified_size": [0, 28]}, "rectified_size"),
        ({"files": {}}, "names no localization.keras"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "files"),
    ],
)
def test_a_foreign_manifest_is_refused_with_the_reason(bundle: Path, changes: Any, message: str) -> None:
    _edit(bundle, **changes)
    with pytest.raises(BadBundle, match=message):
        read_manifest(bundle)


def test_no_bundle_at_all_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(
        BadBundle, match=r"expected a folder with a manifest.json, or the name of a shipped bundle \(digits\)"
    ):
        read_manifest("letters")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BadBundle, match="does not parse"):
        read_manifest(tmp_path)


def _replace_network(bundle: Path, save: Any) -> None:
    from stn_core.bundle import sha256_of

    save(bundle / "classifier.keras")
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    _edit(bundle, files={**files, "classifier.keras": sha256_of(bundle / "classifier.keras")})


def test_a_network_with_code_of_its_own_is_refused(bundle: Path) -> None:
    network = tf_keras.Sequential([tf_keras.layers.Input((28, 28, 1)), tf_keras.layers.Lambda(lambda x: x * 2)])
    _replace_network(bundle, network.save)
    read_manifest(bundle)
    with pytest.raises(BadBundle, match="Lambda., and only Keras' layers"):
        load_network(bundle, "classifier")


def test_a_network_that_names_a_foreign_module_is_refused_before_it_is_imported(bundle: Path) -> None:
    def save(path: Path) -> None:
        build_classifier("fc", (28, 28, 1)).save(path)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(members["config.json"])
        config["config"]["layers"][1].update(module="subprocess", class_name="Popen", registered_name=None)
        members["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    _replace_network(bundle, save)
    with pytest.raises(BadBundle, match=r"names 'subprocess'\.'Popen'"):
        load_network(bundle, "classifier")


def test_a_file_that_is_no_network_is_refused(bundle: Path) -> None:
    _replace_network(bundle, lambda path: path.write_bytes(b"not a network"))
    with pytest.raises(BadBundle, match="expected a .keras file saved by tf_keras, got something else"):
        load_network(bundle, "classifier")


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("evilmod", "X", "stn_core>Nope"),
        ("evilmod", "X", "stn_core>SpatialTransformer"),
        ("evilmod", "SpatialTransformer", "stn_core>SpatialTransformer"),
        ("stn_core.layers", "warp", None),
        ("stn_core.layers", "Disc", "stn_core>Disc"),
        ("stn_core.view", "Disc", None),
        ("keras.layers", "Dense", "evil>Dense"),
        ("keras.layers", "TensorFlowOpLayer", None),
        ("keras.layers", "TFSMLayer", None),
        ("keras.utils", "get_file", None),
        ("builtins", "eval", None),
        (None, "Anything", None),
    ],
)
def test_only_keras_layers_and_ours_are_trusted(module: str | None, name: str, registered: str | None) -> None:
    assert not _is_trusted(module, name, registered)


def test_a_spatial_transformer_is_loaded_from_a_bundle(bundle: Path) -> None:
    layer = SpatialTransformer(build_localization("dense", (28, 28, 1)))
    network = tf_keras.Sequential([layer, build_classifier("fc", (28, 28, 1))])
    network.build((None, 28, 28, 1))
    _replace_network(bundle, network.save)
    assert load_network(bundle, "classifier").count_params() == network.count_params()


def test_writing_over_a_bundle_replaces_it_whole(bundle: Path) -> None:
    before = read_manifest(bundle)
    networks = {name: load_network(bundle, name) for name in ("localization", "classifier")}
    fields = before.model_dump(exclude={"files", "recipe", "version"})
    write_bundle(bundle, networks, {}, **fields, recipe=before.recipe, version="2")
    assert read_manifest(bundle).version == "2"
    assert [entry.name for entry in bundle.parent.iterdir()] == [bundle.name]
    with pytest.raises(KeyError):
        write_bundle(bundle, {"localization": networks["localization"]}, {}, **fields, recipe=before.recipe)
    assert read_manifest(bundle).version == "2", "a write cut short left the old bundle whole"
