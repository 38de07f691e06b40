from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf
import tf_keras

from stn_core.classifiers import build_classifier
from stn_core.datasets import Dataset
from stn_core.errors import BadTensor
from stn_core.layers import SpatialTransformer
from stn_core.localization import LOCALIZATION_KINDS, build_localization
from stn_core.sampler import warp
from stn_core.transforms import identity_like

RELOAD = """
import sys
import numpy as np
import tf_keras
import stn_core.layers
model = tf_keras.models.load_model(sys.argv[1], safe_mode=True)
np.save(sys.argv[3], model(np.load(sys.argv[2]), training=False).numpy())
"""


@pytest.mark.parametrize("kind", sorted(LOCALIZATION_KINDS))
def test_a_new_transformer_leaves_images_as_they_are(kind: str, digits: Dataset) -> None:
    layer = SpatialTransformer(build_localization(kind, (28, 28, 1)))
    images = tf.constant(digits.images[:5] / 255, tf.float32)
    np.testing.assert_array_equal(layer(images).numpy(), images.numpy())
    np.testing.assert_array_equal(layer.localize(images).numpy(), np.tile([[[1, 0, 0], [0, 1, 0]]], (5, 1, 1)))


@pytest.mark.parametrize(("numbers", "shape"), [(6, (2, 3)), (9, (3, 3)), (32, (16, 2))])
def test_a_users_own_network_chooses_the_family_by_its_numbers(
    numbers: int, shape: tuple[int, int], digits: Dataset, tmp_path: Path
) -> None:
    images = tf.constant(digits.images[:5] / 255, tf.float32)
    start = tf_keras.initializers.Constant(identity_like(shape).reshape(-1).tolist())
    own = tf_keras.Sequential(
        [
            tf_keras.layers.Input((28, 28, 1)),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(numbers, kernel_initializer="zeros", bias_initializer=start),
        ]
    )
    model = tf_keras.Sequential([SpatialTransformer(own), tf_keras.layers.Flatten()])
    assert model(images).shape == (5, 784)
    np.testing.assert_array_equal(model(images).numpy().reshape(images.shape), images.numpy())
    moved = sampler_oracle.thetas(np.random.default_rng(0), shape, 1, 0.1).astype(np.float32)
    own.layers[-1].bias.assign(moved.reshape(-1))
    theta = np.tile(moved, (5, 1, 1))
    np.testing.assert_array_equal(model.layers[0].localize(images).numpy(), theta)
    np.testing.assert_array_equal(model.layers[0](images).numpy(), warp(images, tf.constant(theta)).numpy())
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images).numpy(), model(images).numpy())


@pytest.mark.parametrize("numbers", [7, 8, 33])
def test_a_network_with_another_number_of_numbers_is_refused(numbers: int) -> None:
    own = tf_keras.Sequential([tf_keras.layers.Flatten(), tf_keras.layers.Dense(numbers)])
    with pytest.raises(BadTensor, match="theta: expected"):
        SpatialTransformer(own)(tf.zeros([numbers, 8, 8, 1]))


def test_networks_have_the_parameters_of_the_original_system() -> None:
    assert build_localization("tutorial", (28, 28, 1)).count_params() == 83_830
    assert build_classifier("cnn", (28, 28, 1)).count_params() == 60_074
    assert build_classifier("fc", (28, 28, 1)).count_params() == 101_770


def test_an_unknown_network_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected one of .*, got 'resnet'"):
        build_localization("resnet", (28, 28, 1))
    with pytest.raises(ValueError, match="transform: expected one of affine, .*, got 'rigid'"):
        build_localization("dense", (28, 28, 1), transform="rigid")
    with pytest.raises(ValueError, match="expected one of .*, got 'resnet'"):
        build_classifier("resnet", (28, 28, 1))


def _disturbed(shape: tuple[int, int, int], output_size: tuple[int, int] | None) -> Any:
    """A transformer with a user's own localization network, moved off the identity."""
    own = tf_keras.Sequential(
        [
            tf_keras.layers.Input(shape),
            tf_keras.layers.AveragePooling2D(4),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(6, kernel_initializer="random_normal", bias_initializer="ones"),
        ]
    )
    return SpatialTransformer(own, output_size, fill_mode="edge", name="straighten")


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 20, 3)])
def test_saved_and_loaded_in_a_fresh_process_it_gives_the_same_output(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    tf_keras.utils.set_random_seed(3)
    model = tf_keras.Sequential([_disturbed(shape, (24, 24)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(4)])
    images = np.random.default_rng(0).random((7, *shape)).astype(np.float32)
    expected = model(images).numpy()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("model.keras", "images.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", RELOAD, *files], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)


def test_it_trains_in_front_of_a_users_own_network_by_the_class_alone(digits: Dataset) -> None:
    tf_keras.utils.set_random_seed(5)
    own = build_classifier("fc", (28, 28, 1))
    model = tf_keras.Sequential([SpatialTransformer(build_localization("dense", (28, 28, 1))), own])
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    images = digits.images / np.float32(255)
    history = model.fit(images[::2], digits.labels[::2], epochs=3, batch_size=64, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    theta = model.layers[0].localize(images[:50]).numpy()
    assert np.abs(theta - [[1, 0, 0], [0, 1, 0]]).max() > 1e-3, "no gradient reached the localization network"
    assert model.evaluate(images[1::2], digits.labels[1::2], verbose=0)[1] > 0.88


def test_the_output_shape_is_known_with_a_dynamic_batch() -> None:
    layer = _disturbed((32, 20, 3), (24, 30))
    symbolic = layer(tf_keras.layers.Input((32, 20, 3)))
    assert tuple(symbolic.shape) == (None, 24, 30, 3)
    assert tuple(layer.compute_output_shape((None, 32, 20, 3))) == (None, 24, 30, 3)
