"""Compresses an answer for a client that asks for it, and for no other: it takes up to tens of milliseconds a MiB."""

import asyncio
import zlib
from functools import lru_cache

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_LEVEL = 1
"""The fastest: what is left to gain beyond it takes a few times as long."""
_WORTH_BYTES = 1024
_INLINE_BYTES = 16 * 1024
_MAX_HEADER = 256


async def compressed(body: bytes, coding: str) -> bytes | None:
    """``body`` in ``coding``, made beside the event loop if it is large; None if it fits a packet or would grow."""
    if len(body) < _WORTH_BYTES:
        return None
    packed = _compress(body, coding) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(_compress, body, coding)
    return packed if len(packed) < len(body) else None


def _compress(body: bytes, coding: str) -> bytes:
    compressor = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[coding])
    return compressor.compress(body) + compressor.flush()


@lru_cache(64)
def asked_coding(accepted: str) -> str | None:
    """The coding, ``gzip`` or ``deflate``, that Accept-Encoding asks for; None if it only says what it can read.

    HTTP libraries list all codings they know with every request. A header asks if it names a single one, as the Triton
    client's does for its ``response_compression_algorithm``, or if it refuses plain answers (``identity;q=0``).
    """
    if len(accepted) > _MAX_HEADER:
        return None
    weights = dict(_weighted(entry) for entry in accepted.lower().split(",") if entry.strip())
    named = [coding for coding, weight in weights.items() if weight > 0 and coding not in ("identity", "*")]
    refuses_plain = weights.get("identity", weights.get("*", 1.0)) == 0
    if len(named) != 1 and not refuses_plain:
        return None
    return max((coding for coding in named if coding in _WINDOW_BITS), key=weights.__getitem__, default=None)


def _weighted(entry: str) -> tuple[str, float]:
    coding, _, parameter = entry.partition(";")
    name, _, value = parameter.partition("=")
    try:
        weight = float(value) if name.strip() == "q" else 1.0
    except ValueError:
        weight = 0.0
    return coding.strip(), weight
