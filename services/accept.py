"""The Accept header (RFC 9110): which of the forms we have a client would rather see."""

from collections.abc import Sequence


def by_preference(accept: str, offered: Sequence[str]) -> list[str]:
    """Those of the media types ``offered`` that ``accept`` welcomes, the most welcome first.

    Among equals the order is that of ``offered``; an empty header welcomes all. What does not parse counts for nothing.
    """
    ranges = [_weighted(part) for part in accept.split(",")] if accept.strip() else [("*/*", 1.0)]
    weights = {kind: _weight(kind, dict(ranges)) for kind in offered}
    return sorted((kind for kind in offered if weights[kind] > 0), key=lambda kind: -weights[kind])


def _weighted(part: str) -> tuple[str, float]:
    kind, *options = (text.strip().lower() for text in part.split(";"))
    quality = next((option[2:] for option in options if option.startswith("q=")), "1")
    try:
        weight = float(quality)
    except ValueError:
        weight = 0.0
    return kind, weight if 0 <= weight <= 1 else 0.0


def _weight(kind: str, ranges: dict[str, float]) -> float:
    """What the most specific of the ranges that fit says."""
    return next((ranges[fit] for fit in (kind, f"{kind.split('/', maxsplit=1)[0]}/*", "*/*") if fit in ranges), 0.0)
