"""What a call takes beside its own arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

from stn_client.flow import Deadline
from stn_client.progress import Progress, checked_progress
from stn_client.splitting import ENOUGH_IMAGES, ENOUGH_IMAGES_TO_KEEP
from stn_core.errors import InvalidInput


class WarpOptions(TypedDict, total=False):
    """What every call takes."""

    progress: Progress
    """True shows a bar on the terminal; a function is told ``(done, total)``, ``total`` None if it is not known."""
    deadline_s: float | None
    """Seconds after which the call ends with TimedOut, its pauses and retries included; None is no limit."""
    batch_images: int
    """The most images in one request, 512 unless said: fewer come back sooner from a source that is slow."""


class Options(WarpOptions, total=False):
    """What the calls take whose results can hold errors."""

    errors: Literal["raise", "keep"]
    """``keep``: an image that cannot be read, or is refused, has its error in the result and harms no other."""


@dataclass(frozen=True)
class Chosen:
    """Options as they hold for one call."""

    progress: Progress
    deadline: Deadline | None
    batch_images: int
    keep: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], default_deadline_s: float | None) -> Self:
        """``given``, else what is usual; InvalidInput or TypeError if they make no sense."""
        unknown = given.keys() - Options.__optional_keys__
        if unknown:
            raise TypeError(f"expected options of {', '.join(sorted(Options.__optional_keys__))}, got {min(unknown)!r}")
        errors = given.get("errors", "raise")
        if errors not in ("raise", "keep"):
            raise InvalidInput(f"errors: expected 'raise' or 'keep', got {errors!r}")
        keep = errors == "keep"
        enough = given.get("batch_images", ENOUGH_IMAGES)
        if not isinstance(enough, int) or enough < 1:
            raise InvalidInput(f"batch_images: expected a whole number from 1, got {enough!r}")
        deadline_s = given.get("deadline_s", default_deadline_s)
        return cls(
            checked_progress(given.get("progress", False)),
            None if deadline_s is None else Deadline(deadline_s),
            min(enough, ENOUGH_IMAGES_TO_KEEP) if keep else enough,
            keep,
        )
