"""How many images go in a request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stn_client.splitting import ENOUGH_BYTES, HEADER_ROOM_BYTES, Limits, Room

from stn_core.errors import TooLarge


@given(count=st.integers(1, 300), most=st.integers(1, 64), side=st.integers(1, 30), space=st.integers(1000, 9000))
def test_requests_cover_all_places_in_order_within_the_limits(count: int, most: int, side: int, space: int) -> None:
    room = Room.within(Limits(most, HEADER_ROOM_BYTES + 100 + space), 100, 512)
    parts = room.split(count, side * side)
    assert [place for part in parts for place in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= most
    assert max(sizes) * side * side <= space
    assert len(parts) == 1 or max(sizes) * (len(parts) - 1) < count + len(parts)  # no more requests than needed


def test_enough_is_enough_however_much_the_server_takes() -> None:
    vast = Limits(10**6, 2**30, 2**40)
    assert [len(part) for part in Room.within(vast, 0, 512).split(1024, 100)] == [512, 512]
    assert [len(part) for part in Room.within(vast, 0, 100).split(200, 100)] == [100, 100]
    assert len(Room.within(vast, 0, 512).split(8, ENOUGH_BYTES // 2)) == 4
    assert len(Room.within(vast, 0, 512).split(3, 2 * ENOUGH_BYTES)) == 3  # a large image goes by itself
    assert len(Room.within(Limits(100, 2**24, 1000), 0, 512).split(30, 100)) == 3


def test_an_image_larger_than_a_request_is_refused() -> None:
    room = Room.within(Limits(10, 3000), 0, 512)
    with pytest.raises(TooLarge, match=r"at most 952 bytes of images in a request, but one image alone has 9801; send"):
        room.split(2, 99 * 99)


@pytest.mark.parametrize("said", [None, [], {}, {"max_images": "9"}, {"max_images": 0}, {"max_images": True}])
def test_limits_a_server_does_not_say_are_the_defaults(said: Any) -> None:
    assert Limits.of({"limits": said}) == Limits()


def test_limits_are_read() -> None:
    said = {"max_images": 9, "max_request_bytes": 10**7, "max_decoded_bytes": 10**8, "other": 1}
    assert Limits.of({"limits": said}) == Limits(9, 10**7, 10**8)
