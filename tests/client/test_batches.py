"""How images that come one after another are formed to batches."""

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from picture_files import saved
from PIL import Image
from stn_client.batches import Alongside, Batch, Failed, Former, form, form_array, form_async
from stn_client.images import Reading
from stn_client.inputs import ids_beside, theta_beside
from stn_client.splitting import HEADER_ROOM_BYTES, Limits, Room

from stn_core.draws import Numbering, image_ids
from stn_core.errors import BadTensor, InvalidInput, TooLarge

NONE = Alongside({})


def room(images: int = 4, request_bytes: int = 2**20, decoded_bytes: int = 2**20) -> Room:
    return Room.within(Limits(images, HEADER_ROOM_BYTES + request_bytes, decoded_bytes), 0, 512)


def former(of: Room, alongside: Alongside = NONE, keep: bool = False) -> Former:
    return Former(of, alongside, Reading(), keep)


def gray(value: int, side: int = 2) -> np.ndarray:
    return np.full((side, side), value, np.uint8)


def lengths(images: list[object], of: Room) -> list[int]:
    return [len(batch.index) for batch in form(images, former(of)) if isinstance(batch, Batch)]


@given(sides=st.lists(st.integers(1, 3), min_size=1, max_size=40), most=st.integers(1, 7))
def test_every_image_is_in_one_batch_of_its_size_in_order(sides: list[int], most: int) -> None:
    images = [gray(place, side) for place, side in enumerate(sides)]
    batches = list(form(images, former(room(most))))
    assert [place for batch in batches for place in batch.index] == list(range(len(sides)))
    for batch in batches:
        assert len(batch.index) <= most
        assert {sides[place] for place in batch.index} == {batch.inputs["images"].shape[1]}
        assert batch.inputs["images"][:, 0, 0, 0].tolist() == list(batch.index)
    for one, following in pairwise(batches):  # none ends without a reason
        assert len(one.index) == most or sides[one.index[-1]] != sides[following.index[0]]


def test_datatypes_and_axes_do_not_mix() -> None:
    images = [gray(1), gray(1)[..., None], np.zeros((2, 2)), np.zeros((2, 2), np.float32), gray(1)]
    assert lengths(images, room()) == [1, 1, 2, 1]  # float64 is sent as float32


def test_encoded_pictures_go_together_by_the_size_they_tell() -> None:
    small, large = saved(Image.new("L", (4, 4))), saved(Image.new("L", (5, 4)), "JPEG")
    assert lengths([small, small, large, large, small, b"who knows", b"or this"], room()) == [2, 2, 1, 2]


def test_batches_end_where_the_bytes_do() -> None:
    assert lengths([gray(0, 10)] * 7, room(request_bytes=250)) == [2, 2, 2, 1]
    assert lengths([b"x" * 96] * 7, room(request_bytes=300)) == [3, 3, 1]
    assert lengths([saved(Image.new("L", (10, 10)))] * 5, room(decoded_bytes=800)) == [2, 2, 1]


def test_what_goes_along_takes_bytes_too() -> None:
    alongside = Alongside({"theta": theta_beside(np.eye(3), None)})
    batches = list(form([gray(0, 8)] * 4, former(room(request_bytes=200), alongside)))
    assert [len(batch.index) for batch in batches] == [2, 2]


def test_an_image_larger_than_a_request_is_an_error() -> None:
    first, failed = form([gray(0), gray(0, 99)], former(room(request_bytes=1000)))
    assert len(first.index) == 1
    assert isinstance(failed.error, TooLarge)


def test_a_full_batch_does_not_wait_for_the_next_image() -> None:
    read = []

    def images() -> Iterator[np.ndarray]:
        for place in range(100):
            read.append(place)
            yield gray(place)

    batches = form(images(), former(room(4)))
    for times in (1, 2, 3):
        next(batches)
        assert len(read) == 4 * times


def test_an_iterable_that_raises_ends_after_what_it_gave() -> None:
    def images() -> Iterator[np.ndarray]:
        yield from [gray(1)] * 5
        raise OSError("the disk is gone")

    *batches, last = form(images(), former(room(4)))
    assert [len(batch.index) for batch in batches] == [4, 1]
    assert isinstance(last, Failed)
    assert str(last.error) == "the disk is gone"


def test_a_bad_image_ends_it_unless_errors_are_kept(tmp_path: Path) -> None:
    images = [gray(0), tmp_path / "gone.png", gray(2), gray(3, 5), "gone too", "and this"]
    first, failed = form(images, former(room()))
    assert first.index == range(1)
    assert failed.error.__notes__ == ["this is image 1"]
    one, two = form(images, former(room(), keep=True))
    assert (one.index, one.places, set(one.errors)) == (range(3), [0, 2], {1})
    assert (two.index, two.places, set(two.errors)) == (range(3, 6), [3], {4, 5})
    (all_bad,) = form(["gone"] * 3, former(room(), keep=True))
    assert (all_bad.index, all_bad.places, len(all_bad.errors), all_bad.inputs) == (range(3), [], 3, {})
    assert all(isinstance(error, InvalidInput) for error in all_bad.errors.values())


def test_what_goes_along_stays_with_its_image(tmp_path: Path) -> None:
    thetas = np.arange(36, dtype=np.float32).reshape(6, 2, 3)
    alongside = Alongside({"theta": theta_beside(iter(thetas), None), "ids": ids_beside(range(6), 6)})
    images = ["gone", "gone", gray(2), gray(3), "gone", gray(5)]
    batches = list(form(images, former(room(2), alongside, keep=True)))
    assert [batch.places for batch in batches] == [[], range(2, 4), [5]]
    for batch in batches[1:]:
        assert np.array_equal(batch.inputs["theta"], thetas[list(batch.places)])
        assert batch.inputs["ids"].tolist() == list(batch.places)


def test_too_few_beside_end_it_after_what_there_was() -> None:
    alongside = Alongside({"ids": ids_beside(iter(range(5)), None)})
    first, failed = form([gray(0)] * 7, former(room(4), alongside))
    assert first.inputs["ids"].tolist() == [0, 1, 2, 3]
    assert isinstance(failed.error, BadTensor)


def test_images_are_numbered_as_if_they_came_at_once() -> None:
    images = np.random.default_rng(0).integers(0, 2, (50, 2, 2), np.uint8)  # many are equal
    expected = image_ids(images[..., None])
    for batches in (
        form_array(images, room(7), Alongside({}, Numbering())),
        form(images, former(room(7), Alongside({}, Numbering()))),
        form_array(images[..., None], room(50), Alongside({}, Numbering())),
    ):
        assert np.array_equal(np.concatenate([batch.inputs["ids"] for batch in batches]), expected)
    flipped = form_array(images[:, ::-1], room(7), Alongside({}, Numbering()))
    assert np.array_equal(
        np.concatenate([batch.inputs["ids"] for batch in flipped]), image_ids(np.ascontiguousarray(images[:, ::-1]))
    )


def test_equal_files_are_numbered_apart() -> None:
    data = saved(Image.new("L", (3, 3)))
    batches = list(form([data] * 6, former(room(4), Alongside({}, Numbering()))))
    assert len(set(np.concatenate([batch.inputs["ids"] for batch in batches]).tolist())) == 6


def test_halves_are_the_whole() -> None:
    thetas = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    alongside = Alongside({"theta": theta_beside(thetas, 5)})
    (batch,) = form([gray(0), "gone", gray(2), gray(3), gray(4)], former(room(9), alongside, keep=True))
    first, second = batch.halves()
    assert (first.places, second.places) == ([0, 2], [3, 4])
    assert second.inputs["images"][:, 0, 0, 0].tolist() == [3, 4]
    assert np.array_equal(second.inputs["theta"], thetas[3:])
    assert second.errors == {}


async def test_images_that_come_asynchronously_are_formed_alike(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(saved(Image.new("L", (3, 3))))
    images = [gray(0), gray(1), path, path, gray(2), "gone", gray(9)]

    async def one_by_one() -> AsyncIterator[object]:
        for image in images:
            yield image

    found = [batch async for batch in form_async(one_by_one(), former(room()))]
    expected = list(form(images, former(room())))
    assert len(found) == len(expected) == 4
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        assert one.index == other.index
        assert np.array_equal(one.inputs["images"], other.inputs["images"])
    assert isinstance(found[-1].error, InvalidInput)
