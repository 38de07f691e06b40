"""One image by one call into C: what both networks and the sampler give one by one, of any kind of bundle and image."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_core.backends.alone import Alone
from stn_core.bundle import write_bundle
from stn_core.classifiers import build_classifier
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadBundle
from stn_core.localization import build_localization
from stn_core.recipes import load_recipe

TIGHT = 1e-5


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("digits", backend="onnx")


def step_by_step(engine: Engine, images: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    rectified, theta = engine.rectify(images)
    return *engine.classify(rectified), rectified, theta


def check(engine: Engine, images: NDArray[Any]) -> None:
    found = engine.predict(images)
    label, probabilities, rectified, theta = step_by_step(engine, images)
    assert found.label.tolist() == label.tolist()
    assert (found.label.dtype, found.rectified.dtype) == (np.int64, images.dtype)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=TIGHT)
    np.testing.assert_allclose(found.theta, theta, atol=TIGHT)
    np.testing.assert_allclose(
        found.rectified.astype(float), rectified.astype(float), atol=1 if images.dtype == np.uint8 else 1e-4
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_alone_or_step_by_step_an_image_comes_to_the_same(engine: Engine, digits: Dataset, dtype: Any) -> None:
    assert engine._backend.alone is not None
    for image in digits.images[:100]:
        check(engine, image[None] if dtype == np.uint8 else image[None].astype(np.float32) / 255)


def test_results_are_ones_own(engine: Engine, digits: Dataset) -> None:
    first = engine.predict(digits.images[:1])
    kept = [array.copy() for array in first]
    engine.predict(digits.images[1:2])
    for array, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_an_image_may_be_a_view_of_anything(engine: Engine, digits: Dataset) -> None:
    images = digits.images[:4]
    check(engine, images[3:4])
    check(engine, np.asfortranarray(images[2:3]))
    check(engine, images[1:2, ::-1, ::-1])
    check(engine, np.frombuffer(images[:1].tobytes(), np.uint8).reshape(1, 28, 28, 1))


def test_several_threads_do_not_meet(engine: Engine, digits: Dataset) -> None:
    images = digits.images[:64]
    expected = np.concatenate([engine.predict(images[n : n + 1]).probabilities for n in range(64)])
    wrong: list[int] = []

    def work(start: int) -> None:
        for n in [*range(start, 64), *range(start)] * 5:
            if not np.array_equal(engine.predict(images[n : n + 1]).probabilities[0], expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(16 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("shape", "rectified_size", "transform", "passes"),
    [
        ((20, 24, 3), None, "homography", 1),
        ((28, 28, 1), (16, 20), "similarity", 1),
        ((28, 28, 1), None, "tps", 1),
        ((28, 28, 1), None, "affine", 2),
    ],
)
def test_bundles_of_all_kinds(
    tmp_path: Path, shape: tuple[int, int, int], rectified_size: Any, transform: str, passes: int
) -> None:
    localization = build_localization("small", shape, transform=transform)
    head = next(layer for layer in reversed(localization.layers) if layer.trainable)
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.02, head.kernel.shape))
    height, width = rectified_size or shape[:2]
    write_bundle(
        tmp_path / "b",
        {"localization": localization, "classifier": build_classifier("fc", (height, width, shape[2]), 3)},
        {},
        name="any",
        created="2026-01-01",
        input_shape=shape,
        rectified_size=rectified_size,
        transform=transform,
        passes=passes,
        fill_fraction=1.0,
        classes=["a", "b", "c"],
        recipe=load_recipe("rotation"),
    )
    engine = Engine.load(tmp_path / "b", backend="onnx")
    assert (engine._backend.alone is not None) == (transform != "tps" and passes == 1)
    for dtype in (np.uint8, np.float32):
        images = np.random.default_rng(0).random((3, *shape))
        images = (images * 255).astype(np.uint8) if dtype == np.uint8 else images.astype(np.float32)
        for image in images:
            check(engine, image[None])


def test_networks_of_other_shapes_than_the_manifest_says_are_not_run(engine: Engine) -> None:
    alone: Any = engine._backend.alone
    for odd in ({"input_shape": (28, 29, 1)}, {"rectified_size": (29, 28)}, {"classes": ["a", "b"]}):
        with pytest.raises(BadBundle, match="expected inputs and outputs of the shapes"):
            Alone(engine.manifest.model_copy(update=odd), *alone._sessions)


def test_with_one_network_there_is_no_such_way() -> None:
    assert Engine.load("digits", ("localization",), backend="onnx")._backend.alone is None


def test_sessions_are_released_with_the_engine(digits: Dataset) -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def load_and_use() -> None:
        Engine.load("digits", backend="onnx").predict(digits.images[:1])

    for _ in range(5):
        load_and_use()
    before = resident_bytes()
    for _ in range(20):
        load_and_use()
    assert resident_bytes() - before < 20e6, "an engine holds about 5 MB"
