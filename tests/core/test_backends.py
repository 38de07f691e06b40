"""The two backends of an engine give the same answers; ONNX files are checked, and serve without TensorFlow."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from stn_core.augment import augment
from stn_core.bundle import find_bundle, load_network, read_manifest, sha256_of, write_bundle
from stn_core.classifiers import CLASSIFIER_KINDS, build_classifier
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadBundle
from stn_core.export import ExportFailed, to_onnx
from stn_core.localization import LOCALIZATION_KINDS, build_localization
from stn_core.recipes import load_recipe


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_both_backends_read_and_straighten_alike(digits: Dataset, dtype: Any) -> None:
    images = augment(digits.images[:500], load_recipe("tutorial-mix"), seed=4).images
    images = images if dtype == np.uint8 else images.astype(np.float32) / 255
    ours, theirs = Engine.load("digits", backend="onnx"), Engine.load("digits", backend="tensorflow")
    np.testing.assert_allclose(ours.localize(images), theirs.localize(images), atol=3e-5)
    (rectified, theta), (expected, _) = ours.rectify(images), theirs.rectify(images)
    assert rectified.dtype == expected.dtype == dtype
    off = np.abs(rectified.astype(np.float64) - expected) / (255 if dtype == np.uint8 else 1)
    assert off.max() <= (1 / 255 + 1e-9 if dtype == np.uint8 else 1e-4)  # a grey level, where rounding falls otherwise
    for size in (None, (40, 17)):
        np.testing.assert_allclose(
            ours.warp(images, theta, size).astype(np.float64), theirs.warp(images, theta, size), atol=1 + 1e-6
        )
    (label, probabilities), (same_label, same) = ours.classify(rectified), theirs.classify(rectified)
    np.testing.assert_array_equal(label, same_label)
    np.testing.assert_allclose(probabilities, same, atol=1e-5)


@pytest.mark.parametrize("transform", ["similarity", "homography", "tps"])
def test_every_family_and_a_second_look_run_alike(tmp_path: Path, transform: str) -> None:
    localization = build_localization("small", (20, 16, 3), transform=transform)
    head = next(layer for layer in reversed(localization.layers) if layer.trainable)
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.02, head.kernel.shape))
    write_bundle(
        tmp_path / "b",
        {"localization": localization, "classifier": build_classifier("fc", (20, 16, 3), 2)},
        {},
        name="small",
        created="2026-01-01",
        input_shape=(20, 16, 3),
        transform=transform,
        passes=1 if transform == "tps" else 2,
        fill_fraction=1.0,
        classes=["a", "b"],
        recipe=load_recipe("rotation"),
    )
    images = np.random.default_rng(2).random((6, 20, 16, 3)).astype(np.float32)
    ours, theirs = (Engine.load(tmp_path / "b", backend=name) for name in ("onnx", "tensorflow"))
    for found, expected in zip(ours.rectify(images), theirs.rectify(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(ours.classify(images)[1], theirs.classify(images)[1], atol=1e-5)


@pytest.mark.parametrize("kind", [*LOCALIZATION_KINDS, *CLASSIFIER_KINDS])
def test_each_named_network_has_its_equal_in_onnx(kind: str) -> None:
    make = build_localization if kind in LOCALIZATION_KINDS else build_classifier
    assert to_onnx(make(kind, (32, 30, 1)), (32, 30, 1))  # which checks the answers itself


def test_a_disc_in_front_of_the_network_is_exported_too() -> None:
    assert to_onnx(build_localization("small", (28, 28, 1), view="disc"), (28, 28, 1))


def test_half_precision_is_for_weights_that_lose_nothing() -> None:
    network = build_classifier("fc", (28, 28, 1))

    def stored() -> set[int]:
        model = onnx.load_from_string(to_onnx(network, (28, 28, 1)))
        return {one.data_type for one in model.graph.initializer if np.prod(one.dims) >= 256}

    assert stored() == {onnx.TensorProto.FLOAT}
    for weights in network.trainable_variables:
        weights.assign(tf.cast(tf.cast(weights, tf.float16), tf.float32))
    assert stored() == {onnx.TensorProto.FLOAT16}


def test_a_network_that_answers_otherwise_in_onnx_is_refused() -> None:
    images = layers.Input((8, 8, 1))
    noisy = layers.Lambda(lambda x: x + tf.random.uniform(tf.shape(x)))(layers.Flatten()(images))
    with pytest.raises(ExportFailed, match="cannot be converted|answers differ from TensorFlow's by"):
        to_onnx(tf_keras.Model(images, noisy), (8, 8, 1))


def test_a_bundle_that_onnx_cannot_hold_is_served_by_tensorflow(tmp_path: Path, caplog: Any) -> None:
    images = layers.Input((20, 20, 1))
    x = tf_keras.layers.Resizing(7, 9, interpolation="lanczos3")(images)
    classifier = tf_keras.Model(images, layers.Dense(2)(layers.Flatten()(x)))
    with caplog.at_level(logging.WARNING, logger="stn_core.bundle"):
        written = write_bundle(
            tmp_path / "b",
            {"localization": build_localization("dense", (20, 20, 1)), "classifier": classifier},
            {},
            name="odd",
            created="2026-01-01",
            input_shape=(20, 20, 1),
            classes=["a", "b"],
            recipe=load_recipe("rotation"),
        )
    assert "localization.onnx" in written.files
    assert "classifier.onnx" not in written.files
    assert "the bundle is served by TensorFlow" in caplog.text
    label, probabilities = Engine.load(tmp_path / "b").classify(np.zeros((3, 20, 20, 1), np.uint8))
    assert label.shape == (3,)
    assert probabilities.shape == (3, 2)
    with pytest.raises(BadBundle, match=r"has no classifier.onnx: add it by `stn export --bundle .*engine tensorflow"):
        Engine.load(tmp_path / "b", backend="onnx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped bundle, to be broken."""
    return Path(shutil.copytree(find_bundle("digits"), tmp_path / "digits"))


def _replace(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = sha256_of(bundle / name)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x08" * 100])
def test_a_file_that_is_no_network_is_refused_without_a_traceback(bundle: Path, content: bytes) -> None:
    _replace(bundle, "classifier.onnx", content)
    with pytest.raises(BadBundle, match=r"classifier.onnx does not load: [^\n]+$"):
        Engine.load(bundle)


def test_a_network_may_not_point_to_other_files(bundle: Path) -> None:
    (bundle.parent / "secret").write_bytes(bytes(4 * 84 * 10))
    model = onnx.load(bundle / "classifier.onnx")
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "../secret"
    _replace(bundle, "classifier.onnx", model.SerializeToString())
    with pytest.raises(BadBundle, match=r"classifier.onnx does not load"):
        Engine.load(bundle)


def test_a_network_with_other_inputs_is_refused(bundle: Path) -> None:
    model = onnx.load(bundle / "classifier.onnx")
    for node in model.graph.node:
        node.input[:] = ["pictures" if name == "images" else name for name in node.input]
    model.graph.input[0].name = "pictures"
    _replace(bundle, "classifier.onnx", model.SerializeToString())
    with pytest.raises(BadBundle, match=r"expected one input, images, and one output, got the inputs \['pictures'\]"):
        Engine.load(bundle)


def test_a_tampered_network_is_refused(bundle: Path) -> None:
    (bundle / "localization.onnx").write_bytes(b"other")
    with pytest.raises(BadBundle, match=r"localization.onnx"):
        Engine.load(bundle)


def test_serving_needs_neither_tensorflow_nor_imgaug() -> None:
    code = (
        "import sys, numpy as np\n"
        "from stn_core.engine import Engine\n"
        "from stn_core.augment import augment\n"
        "from stn_core.recipes import load_recipe\n"
        "engine = Engine.load('digits')\n"
        "engine.warm_up()\n"
        "augment(np.zeros((2, 28, 28, 1), np.uint8), load_recipe('tutorial-mix'), 1)\n"
        "print([m for m in ('tensorflow', 'tf_keras', 'imgaug', 'cv2', 'scipy', 'onnx') if m in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_the_shipped_files_say_what_the_keras_networks_say(digits: Dataset) -> None:
    engine, images = Engine.load("digits", backend="onnx"), digits.images[:64]
    logits = load_network("digits", "classifier")(images / np.float32(255)).numpy()
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = softmax / softmax.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(engine.classify(images)[1], expected, atol=1e-5)
    assert {"classifier.onnx", "localization.onnx"} <= set(read_manifest("digits").files)
