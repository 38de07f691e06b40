"""Damages bytes: flips, splices, lengths that lie, and words that parsers know."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

MAX_BYTES = 64 * 1024
_LENGTHS = (0, 1, 2, 4, 8, 127, 128, 255, 256, 2**15 - 1, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LONG_LENGTHS = (*_LENGTHS, 2**48, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    b"null", b"true", b"-1", b"1e999", b"NaN", b"1.5", b"18446744073709551616", b"9223372036854775807", b'""', b"[]",
    b"{}", b"[[[[[[[[[[", b"]]]]]]]]]]", b'{"a":', b"\\ud800", b"\\u0000", b"\xff\xfe", b"\x00", b"\xc3", b"\r\n",
    b"--", b'"shape":[-1]', b'"shape":[0,9223372036854775807,9223372036854775807]', b'"datatype":"BYTES"',
    b'"datatype":"FP64"', b'"parameters":{"binary_data_size":4294967295}', b'"data":[NaN]', b"IHDR", b"IDAT", b"IEND",
    b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xc0", b"Exif\0\0", b"&a [*a,*a]", b"!!python/object:os.system",
)  # fmt: skip

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with one to five damages, of at most ``MAX_BYTES``."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 + int(rng.random() * rng.random() * 5)):
        rng.choice(_MUTATIONS)(rng, data, seeds)
    return bytes(data[:MAX_BYTES])


def with_right_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them now, so that damage gets past the first look."""
    data, at = bytearray(png), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def _place(rng: random.Random, data: bytearray, beyond: int = 0) -> int:
    return int(rng.random() * (len(data) + beyond))


def _flip_bits(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if data:
            data[_place(rng, data)] ^= 1 << int(rng.random() * 8)


def _set_bytes(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    start = _place(rng, data, 1)
    data[start : start + 4] = rng.randbytes(rng.choice((1, 2, 4)))


def _cut_short(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[_place(rng, data, 1) :]


def _leave_out(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    start = _place(rng, data, 1)
    del data[start : start + rng.choice((1, 2, 4, 16, 256))]


def _repeat(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    start = _place(rng, data, 1)
    piece = data[start : start + rng.choice((1, 4, 16, 64))]
    data[start:start] = piece * rng.choice((1, 2, 64))


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    start = int(rng.random() * (len(other) + 1))
    at = _place(rng, data, 1)
    data[at : at + rng.choice((0, 4, 64))] = other[start : start + rng.choice((4, 16, 256))]


def _edit_length(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    width = rng.choice((1, 2, 4, 4, 8))
    number = rng.choice(_LONG_LENGTHS if width == 8 else _LENGTHS) & (256**width - 1)
    at = _place(rng, data, 1)
    data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))


def _edit_digits(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Another number in the place of one that is written out."""
    digits = [at for at, byte in enumerate(data[:4096]) if 48 <= byte <= 57]
    if digits:
        at = rng.choice(digits)
        data[at : at + 1] = str(rng.choice(_LONG_LENGTHS)).encode()


def _put_word(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, data, 1)
    data[at : at + rng.choice((0, 1, 4))] = rng.choice(_WORDS)


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits, _set_bytes, _cut_short, _leave_out, _repeat, _splice, _edit_length, _edit_digits, _put_word,
)  # fmt: skip
