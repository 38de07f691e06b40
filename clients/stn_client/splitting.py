"""How many images go in one request: what the server takes, and what is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from stn_core.errors import TooLarge

# However much the server takes in one request: with several smaller ones in flight, sending, computing and receiving
# overlap, each stays far from the server's time limit, and little memory is held.
ENOUGH_IMAGES = 512
ENOUGH_BYTES = 4 * 2**20
# Where one bad image has its request refused, which is then sent again in halves.
ENOUGH_IMAGES_TO_KEEP = 64
HEADER_ROOM_BYTES = 2048  # more than the JSON header of any request of ours takes, its parameters aside


@dataclass(frozen=True)
class Limits:
    """What the server takes in one request. The defaults serve one that does not say."""

    max_images: int = 64
    max_request_bytes: int = 8 * 2**20
    max_decoded_bytes: int = 64 * 2**20

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Limits:
        """The ``limits`` in the server's metadata; what is missing or makes no sense there is as by default."""
        said = metadata.get("limits")
        said = said if isinstance(said, dict) else {}
        names = ("max_images", "max_request_bytes", "max_decoded_bytes")
        return cls(**{name: said[name] for name in names if type(said.get(name)) is int and said[name] > 0})


class Room(NamedTuple):
    """What goes in one request: so many images, so many bytes of them; a single one may have ``most_bytes``."""

    images: int
    enough_bytes: int
    most_bytes: int
    decoded_bytes: int

    @classmethod
    def within(cls, limits: Limits, parameters_bytes: int, enough_images: int) -> Room:
        """The room that ``limits`` leave beside a header with parameters of ``parameters_bytes``."""
        most_bytes = limits.max_request_bytes - HEADER_ROOM_BYTES - parameters_bytes
        images = min(limits.max_images, enough_images)
        return cls(images, min(ENOUGH_BYTES, most_bytes), most_bytes, limits.max_decoded_bytes)

    def check(self, image_bytes: int) -> None:
        """TooLarge if one image of ``image_bytes`` is more than a request may have."""
        if image_bytes > self.most_bytes:
            raise TooLarge(
                f"images: the server takes at most {self.most_bytes} bytes of images in a request, but one image alone "
                f"has {image_bytes}; send smaller images"
            )

    def split(self, count: int, image_bytes: int) -> list[range]:
        """The places of each request's images, all of ``image_bytes``: as few as there is room for, of even sizes."""
        self.check(image_bytes)
        most = max(1, min(self.images, self.enough_bytes // image_bytes, self.decoded_bytes // image_bytes))
        requests = -(-count // most)
        edges = [count * i // requests for i in range(requests + 1)]
        return [range(start, stop) for start, stop in pairwise(edges)]
