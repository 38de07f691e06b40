"""What may go with the images, and what is said about the rest."""

from itertools import count
from typing import Any

import numpy as np
import pytest
from stn_client.inputs import checked_ids, checked_recipe, checked_seed, checked_theta, ids_beside, theta_beside

from stn_core.errors import BadRecipe, BadTensor, InvalidInput


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


# --- one for each image, as the images come --------------------------------------------------------------------------


@pytest.mark.parametrize("known", [5, None])
def test_thetas_are_taken_in_their_order(known: int | None) -> None:
    thetas = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    for given in (thetas, thetas.tolist(), iter(thetas)):
        beside = theta_beside(given, known)
        assert beside.row_bytes == 24
        taken = [beside.take(3), beside.take(2)]
        assert np.array_equal(np.concatenate(taken), thetas)
        assert taken[0].dtype == np.float32


@pytest.mark.parametrize("known", [5, None])
def test_one_theta_is_taken_again_and_again(known: int | None) -> None:
    beside = theta_beside(np.eye(3), known)
    for size in (3, 2):
        assert np.array_equal(beside.take(size), np.tile(np.eye(3, dtype=np.float32), (size, 1, 1)))


def test_ids_may_be_counted_without_end() -> None:
    beside = ids_beside(count(7), None)
    assert beside.row_bytes == 8
    assert beside.take(3).tolist() == [7, 8, 9]
    assert beside.take(2).dtype == np.uint64
    assert ids_beside(range(9), None).take(2).tolist() == [0, 1]


@pytest.mark.parametrize(
    "beside",
    [theta_beside(iter([np.eye(3)] * 4), None), theta_beside([np.eye(3)] * 4, None), ids_beside(range(4), None)],
)
def test_too_few_are_too_few(beside: Any) -> None:
    assert len(beside.take(3)) == 3
    with pytest.raises(BadTensor, match=r"expected one for each image, but there are more images than that"):
        beside.take(2)


def test_what_comes_is_checked_as_it_comes() -> None:
    with pytest.raises(BadTensor, match="ids: expected 1 whole numbers"):
        ids_beside(iter([-1]), None)
    mixed = theta_beside(iter([np.eye(3), np.eye(2, 3)]), None)
    with pytest.raises(BadTensor, match="lists of unequal lengths"):
        mixed.take(2)
    for wrong in (np.zeros((4, 5)), 7, None):
        with pytest.raises(BadTensor, match="theta: expected finite numbers"):
            theta_beside(wrong, None)
    with pytest.raises(BadTensor, match="ids: expected 1 whole numbers"):
        ids_beside(7, None)
