"""One bad image does not lose its neighbours: errors kept by image, over real sockets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from picture_files import saved
from PIL import Image
from protocol_server import Server, Turn
from stn_client import BadRecipe, BadTensor, Client, InvalidInput, NotAllowed, Overloaded, TooLarge, Unavailable

Call = Callable[..., Any]

BAD = 255
KEEP = {"errors": "keep"}


def images(count: int, *bad: int) -> np.ndarray:
    """Each of the value of its place, those at the places ``bad`` of a value that the server refuses."""
    values = np.arange(count, dtype=np.uint8)
    values[list(bad)] = BAD
    return np.broadcast_to(values[:, None, None], (count, 6, 5)).copy()


@pytest.fixture
def server(server: Server) -> Server:
    server.refused = BAD
    server.metadata = {"limits": {"max_images": 1000, "max_request_bytes": 2**24}}
    return server


@pytest.mark.parametrize("bad", [(), (0,), (63,), (17,), (3, 4), (0, 31, 32, 63), tuple(range(0, 64, 5)), range(64)])
def test_the_refused_have_errors_and_the_others_answers(server: Server, call: Call, bad: Any) -> None:
    prediction = call(server.url, "predict", images(64, *bad), given=KEEP)
    assert list(prediction.errors) == list(bad)
    assert all(type(error) is BadTensor for error in prediction.errors.values())
    expected = np.arange(64)
    expected[list(bad)] = -1
    assert prediction.label.tolist() == expected.tolist()
    assert all((row.rectified == row.index).all() for row in prediction if row.error is None)
    assert len(server.infers) <= min(1 + 2 * 6 * len(bad), 2 * 64 - 1)  # a binary search for each, at most


def test_without_keeping_the_first_refusal_is_raised(server: Server, call: Call) -> None:
    with pytest.raises(BadTensor, match="one of them is refused"):
        call(server.url, "predict", images(64, 17))
    assert len(server.infers) == 1


def test_requests_are_smaller_where_errors_are_kept(server: Server, call: Call) -> None:
    parts = call(server.url, "stream.predict", images(150, 100), given=KEEP)
    assert [part.index for part in parts] == [range(64), range(64, 128), range(128, 150)]
    assert [list(part.errors) for part in parts] == [[], [100], []]
    assert [row.index for part in parts for row in part if row.error is not None] == [100]


def test_broken_and_missing_files_have_errors(server: Server, call: Call, tmp_path: Path) -> None:
    for place in range(8):
        (tmp_path / f"{place}.png").write_bytes(saved(Image.new("L", (4, 4), place)))
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:50])
    (tmp_path / "5.png").write_text("no picture")
    paths = [tmp_path / f"{place}.png" for place in (0, 1, 2, 3, 4, 5, 6, 7, 8)]
    prediction = call(server.url, "predict", paths, given=KEEP)
    assert prediction.label.tolist() == [0, 1, 2, -1, 4, -1, 6, 7, -1]
    assert all(isinstance(error, InvalidInput) for error in prediction.errors.values())
    assert str(prediction.errors[5]).startswith("not a readable picture")
    assert "cannot read the file" in str(prediction.errors[8])
    assert prediction.rectified.shape == (9, 4, 4, 1)
    assert (prediction.rectified[3] == 0).all()


def test_all_bad_is_a_result_too(server: Server, call: Call) -> None:
    prediction = call(server.url, "predict", ["gone"] * 5, given=KEEP)
    assert len(prediction) == len(prediction.errors) == 5
    assert (prediction.label == -1).all()
    assert server.infers == []


def test_floats_out_of_range_are_told_one_by_one(server: Server, call: Call) -> None:
    floats = images(5) / 255
    floats[2] = np.nan
    floats[4] = 3
    classification = call(server.url, "classify", floats, given=KEEP)
    assert [str(error)[:40] for error in classification.errors.values()] == [
        "images: expected finite floating values,",
        "images: expected floating values in [0, ",
    ]


def test_what_goes_along_goes_along_with_the_halves(server: Server, call: Call) -> None:
    thetas = np.arange(16 * 6, dtype=np.float32).reshape(16, 2, 3)
    (part,) = call(server.url, "stream.warp", images(16, 5, 11), thetas, given=KEEP)
    assert list(part.errors) == [5, 11]
    augmentation = call(server.url, "augment", images(16, 5, 11), "distorted", 7, given=KEEP)
    assert list(augmentation.errors) == [5, 11]
    assert augmentation.exact.tolist() == [place not in (5, 11) for place in range(16)]


def test_errors_that_are_kept_hold_no_images(server: Server, call: Call) -> None:
    given = [*images(3, 1), np.full((6, 5), 7.0), "gone"]
    errors = call(server.url, "classify", given, given=KEEP).errors
    assert list(errors) == [1, 3, 4]
    assert all(error.__traceback__ is None and error.__context__ is None for error in errors.values())


def test_an_image_too_large_has_an_error(server: Server, call: Call) -> None:
    server.metadata = {"limits": {"max_images": 10, "max_request_bytes": 2**15}}
    given = [images(1)[0], np.zeros((200, 200), np.uint8), images(2)[1]]
    classification = call(server.url, "classify", given, given=KEEP)
    assert {place: type(error) for place, error in classification.errors.items()} == {1: TooLarge}
    assert classification.label.tolist() == [0, -1, 1]


def test_a_server_that_takes_less_than_it_said_is_asked_in_halves(server: Server, call: Call) -> None:
    server.turns = [Turn(413, orjson.dumps(TooLarge("at most 32").problem()))]
    assert call(server.url, "classify", images(64), given=KEEP).errors == {}
    assert len(server.infers) == 3


@pytest.mark.parametrize(
    ("turn", "error"),
    [
        (Turn(503, orjson.dumps(Overloaded("full").problem())), Overloaded),
        (Turn(503, b"no replica"), Unavailable),
        (Turn(401, b"who are you?"), NotAllowed),
        (Turn(400, orjson.dumps(BadRecipe("no such recipe").problem())), BadRecipe),
    ],
)
def test_what_no_image_is_guilty_of_is_raised(server: Server, call: Call, turn: Turn, error: type[Exception]) -> None:
    server.turns = [turn]
    with pytest.raises(error):
        call(server.url, "classify", images(64), given=KEEP, retries=0)
    assert len(server.infers) == 1


def test_an_array_of_warped_images_cannot_hold_errors(server: Server) -> None:
    with Client(server.url) as client, pytest.raises(InvalidInput, match="keep them with stream.warp"):
        client.warp(images(3), np.eye(2, 3), errors="keep")  # type: ignore[call-arg]
