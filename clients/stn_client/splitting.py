"""Splits a batch into requests that the server takes, and puts the answers together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stn_client.errors import BadAnswer
from stn_core.errors import TooLarge

Arrays = Mapping[str, NDArray[Any]]

# However many images the server takes in one request: with several smaller ones in flight, sending, computing and
# receiving overlap, and each stays far from the server's time limit.
ENOUGH_IMAGES = 512
HEADER_ROOM_BYTES = 2048  # more than the JSON header of any request of ours takes, its parameters aside


@dataclass(frozen=True)
class Limits:
    """What the server takes in one request. The defaults serve one that does not say."""

    max_images: int = 64
    max_request_bytes: int = 8 * 2**20

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Limits:
        """The ``limits`` in the server's metadata; what is missing or makes no sense there is as by default."""
        said = metadata.get("limits")
        said = said if isinstance(said, dict) else {}
        names = ("max_images", "max_request_bytes")
        return cls(**{name: said[name] for name in names if type(said.get(name)) is int and said[name] > 0})


def split(inputs: Arrays, parameters_bytes: int, limits: Limits) -> list[slice]:
    """The rows of each request: as few requests as the limits allow, of sizes that differ by one row at most."""
    count = len(next(iter(inputs.values())))
    row_bytes = sum(array.nbytes for array in inputs.values()) // count
    room_bytes = limits.max_request_bytes - HEADER_ROOM_BYTES - parameters_bytes
    most = min(limits.max_images, ENOUGH_IMAGES, room_bytes // row_bytes)
    if most < 1:
        raise TooLarge(
            f"the server takes requests of at most {limits.max_request_bytes} bytes, but one image alone makes "
            f"{row_bytes + HEADER_ROOM_BYTES + parameters_bytes}; send smaller images"
        )
    requests = -(-count // most)
    edges = [count * i // requests for i in range(requests + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


class Answer(NamedTuple):
    """The outputs of one model by name, and the parameters that the service gave with them."""

    outputs: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, Any]


def joined(answers: Sequence[Answer]) -> Answer:
    """The answers as one, in their order; copies, so that the arrays are the caller's own and can be written to."""
    together: dict[str, NDArray[Any]] = {}
    outputs = [answer.outputs for answer in answers]
    if any(one.keys() != outputs[0].keys() for one in outputs):
        shown = "; ".join(sorted({", ".join(one) for one in outputs}))
        raise BadAnswer(f"expected the same outputs in every answer, got {shown}")
    for name in outputs[0]:
        parts = [one[name] for one in outputs]
        if len({(part.dtype, part.shape[1:]) for part in parts}) > 1:
            shapes = ", ".join(sorted({f"{part.dtype} {['N', *part.shape[1:]]}" for part in parts}))
            raise BadAnswer(f"{name}: expected the same shape in every answer, got {shapes}")
        together[name] = np.concatenate(parts)
    return Answer(together, answers[0].parameters)
