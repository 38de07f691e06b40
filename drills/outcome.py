"""What a drill gives: the promise it puts to the test, what was counted and measured, whether the promise held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What came of one request."""

    RIGHT = "right"
    """Answered with what the engine itself says of the same images."""
    WRONG = "wrong"
    """Answered with anything else, or with a status that the request did not deserve."""
    REFUSED = "refused"
    """Told in order to come again later: 429 or 503 with Retry-After."""
    LOST = "lost"
    """No answer, or an error that is none of the client's: a broken connection, a timeout, 500, 504."""


@dataclass(frozen=True)
class Counts:
    """How many requests were sent, and what came of each; calls of the SDK count once, however often it tried."""

    sent: int = 0
    right: int = 0
    wrong: int = 0
    refused: int = 0
    lost: int = 0

    @classmethod
    def of(cls, verdicts: Iterable[str]) -> Counts:
        found = list(verdicts)
        return cls(len(found), *(found.count(verdict) for verdict in Verdict))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    @property
    def values(self) -> tuple[int, ...]:
        return self.sent, self.right, self.wrong, self.refused, self.lost


@dataclass(frozen=True)
class Outcome:
    """One promise, put to the test once."""

    title: str
    promise: str
    counts: Counts
    figures: dict[str, Any] = field(default_factory=dict)
    """By a name with its unit; a table shows those of ``told``, the results file all."""
    failures: tuple[str, ...] = ()
    """What was promised and did not hold, each with its figure; empty where the promise held."""
    told: str = ""
    """The figures that matter, in a line for people."""

    @property
    def held(self) -> bool:
        return not self.failures

    @property
    def why(self) -> str:
        return "; ".join(self.failures)

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "held": self.held}


def unless(*conditions: tuple[bool, str]) -> tuple[str, ...]:
    """The texts of the conditions that do not hold."""
    return tuple(text for holds, text in conditions if not holds)
