"""What the caller may give, and what is said about the rest."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stn_client.inputs import ImageBatch, checked_ids, checked_recipe, checked_seed, checked_theta
from stn_client.splitting import HEADER_ROOM_BYTES, Answer, Limits, joined, split

from stn_core.errors import BadRecipe, BadTensor, InvalidInput, TooLarge


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.dtype(">f4"), np.float64])
def test_images_are_sent_as_uint8_or_float32(dtype: Any) -> None:
    batch = ImageBatch.of(np.ones((2, 5, 4, 3), dtype))
    assert batch.array.shape == (2, 5, 4, 3)
    assert batch.array.dtype == (np.uint8 if dtype == np.uint8 else np.float32)


def test_uint8_and_float32_are_not_copied() -> None:
    for images in (np.zeros((2, 5, 4, 3), np.uint8), np.zeros((2, 5, 4), np.float32)):
        assert np.shares_memory(ImageBatch.of(images).array, images)


def test_gray_images_get_a_channel_and_lose_it_again() -> None:
    batch = ImageBatch.of(np.zeros((2, 5, 4), np.uint8))
    assert batch.array.shape == (2, 5, 4, 1)
    assert batch.like_input(batch.array).shape == (2, 5, 4)
    with_channel = ImageBatch.of(np.zeros((2, 5, 4, 1), np.uint8))
    assert with_channel.like_input(with_channel.array).shape == (2, 5, 4, 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[1]], "uint8 or floating in .*; got list"),
        (None, "got NoneType"),
        (np.zeros((28, 28), np.uint8), r"expected a NumPy array \[N, H, W, C\] or \[N, H, W\], .*got uint8 \[28, 28\]"),
        (np.zeros((1, 1, 2, 2, 1), np.uint8), r"got uint8 \[1, 1, 2, 2, 1\]"),
        (np.zeros((1, 2, 2), np.int64), r"got int64 \[1, 2, 2\]"),
        (np.zeros((1, 2, 2), np.float16), "got float16"),
        (np.zeros((1, 2, 2), bool), "got bool"),
        (np.zeros((1, 2, 2), object), "got object"),
        (np.zeros((0, 28, 28), np.uint8), r"expected at least one image; got uint8 \[0, 28, 28\]"),
        (np.zeros((2, 0, 28), np.uint8), r"at least one pixel; got uint8 \[2, 0, 28\]"),
        (np.zeros((28, 28, 3), np.uint8), r"looks like one image \[H, W, C\]: send images\[None\]"),
        (np.full((1, 2, 2), 255.0), r"floating values in \[0, 1\], got float64 from 255 to 255; send .* as uint8, or"),
        (np.full((1, 2, 2), -0.1, np.float32), "got float32 from -0.1 to -0.1"),
        (np.full((1, 2, 2), np.nan), "expected finite floating values, got float64 from nan to nan"),
        (np.full((1, 2, 2), 1e300), "expected finite floating values, got float64 from 1e"),
    ],
)
def test_other_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        ImageBatch.of(images)


def test_floats_may_leave_the_unit_range_a_little_or_where_nothing_depends_on_it() -> None:
    assert ImageBatch.of(np.full((1, 2, 2), 1.0005)).array.dtype == np.float32
    assert ImageBatch.of(np.full((1, 2, 2), -7.0), unit_range=False).array.min() == -7


def test_narrow_images_are_images() -> None:
    assert ImageBatch.of(np.zeros((5, 1, 1), np.uint8)).array.shape == (5, 1, 1, 1)
    assert ImageBatch.of(np.zeros((5, 2, 3), np.uint8)).array.shape == (5, 2, 3, 1)


def test_one_theta_serves_all_images() -> None:
    for theta in ([[1, 0, 0.5], [0, 1, 0]], np.eye(3), np.zeros((9, 2)), np.zeros((16, 2))):
        shape = np.shape(theta)
        assert checked_theta(theta, 3).shape == (3, *shape)
        assert checked_theta([theta] * 3, 3).dtype == np.float32
        assert checked_theta([theta] * 3, 3).shape == (3, *shape)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (
            np.zeros((2, 2, 3)),
            r"finite numbers of the shape \[3, 2, 3\] \(affine\).*, or without the 3 .*got float64 \[2, 2, 3\]",
        ),
        (np.zeros((2, 3, 3)), r"\[3, 3, 3\] \(homography\).*got float64 \[2, 3, 3\]"),
        (np.zeros((3, 15, 2)), r"\[3, K\*K, 2\] \(thin-plate spline\).*got float64 \[3, 15, 2\]"),
        (np.zeros((3, 6)), r"got float64 \[3, 6\]"),
        (np.zeros(6), r"got float64 \[6\]"),
        (np.zeros((1, 3, 2, 3)), r"got float64 \[1, 3, 2, 3\]"),
        (7.0, r"got float64 \[\]"),
        ([[1, 0], [0]], "got lists of unequal lengths"),
        ("identity", "got <U8"),
        (np.full((2, 3), np.inf), "got NaN or infinity"),
    ],
)
def test_other_thetas_are_refused(theta: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        checked_theta(theta, 3)


def test_ids_are_whole_numbers_one_an_image() -> None:
    assert checked_ids([3, 1], 2).dtype == np.uint64
    assert checked_ids(np.array([2**64 - 1], np.uint64), 1)[0] == 2**64 - 1
    for wrong, message in (([1], r"got int64 \[1\]"), ([1.5, 2], "got float64"), ([-1, 2], "got -1")):
        with pytest.raises(BadTensor, match=f"ids: expected 2 whole numbers from 0, one for each image; {message}"):
            checked_ids(wrong, 2)


def test_recipes_are_names_or_json() -> None:
    assert checked_recipe("distorted") == "distorted"
    assert checked_recipe({"name": "mine", "steps": []}) == '{"name":"mine","steps":[]}'
    for wrong, message in ((7, "got int"), ("", "an empty string"), ({"a": {1, 2}}, "what JSON can hold")):
        with pytest.raises(BadRecipe, match=message):
            checked_recipe(wrong)


def test_seeds_are_whole_numbers() -> None:
    assert checked_seed(np.int32(7)) == 7
    for wrong in (-1, 2**63, 1.0, "1", True, None):
        with pytest.raises(InvalidInput, match="seed: expected a whole number from 0"):
            checked_seed(wrong)


# --- splitting ----------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 300), most=st.integers(1, 64), side=st.integers(1, 30), room=st.integers(1000, 9000))
def test_requests_cover_all_rows_in_order_within_the_limits(count: int, most: int, side: int, room: int) -> None:
    images = np.zeros((count, side, side, 1), np.uint8)
    limits = Limits(most, HEADER_ROOM_BYTES + 100 + room)
    rows = split({"images": images}, 100, limits)
    assert [row for part in rows for row in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in rows]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= most
    assert max(sizes) * side * side <= room
    assert len(rows) == 1 or max(sizes) * (len(rows) - 1) < count + len(rows)  # no more requests than needed


def test_every_input_counts_against_the_limit() -> None:
    images, ids = np.zeros((100, 10, 10, 1), np.uint8), np.zeros(100, np.uint64)
    room = Limits(1000, HEADER_ROOM_BYTES + 1080)
    assert len(split({"images": images}, 0, room)) == 10
    assert len(split({"images": images, "ids": ids}, 0, room)) == 10
    assert len(split({"images": images, "ids": ids}, 1, room)) == 12


def test_an_image_larger_than_a_request_is_refused() -> None:
    with pytest.raises(TooLarge, match=r"at most 3000 bytes, but one image alone makes \d+; send smaller images"):
        split({"images": np.zeros((2, 99, 99, 1), np.uint8)}, 0, Limits(10, 3000))


@pytest.mark.parametrize("said", [None, [], {}, {"max_images": "9"}, {"max_images": 0}, {"max_images": True}])
def test_limits_a_server_does_not_say_are_the_defaults(said: Any) -> None:
    assert Limits.of({"limits": said}) == Limits()


def test_limits_are_read() -> None:
    assert Limits.of({"limits": {"max_images": 9, "max_request_bytes": 10**7, "other": 1}}) == Limits(9, 10**7)


def test_joined_arrays_are_the_callers_own() -> None:
    part = np.frombuffer(b"abcd", np.uint8).reshape(2, 2)
    assert not part.flags.writeable
    assert joined([Answer({"x": part}, {})]).outputs["x"].flags.writeable
