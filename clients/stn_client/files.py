"""Pictures on the disk: which files a folder or a pattern names, and what is in them."""

from __future__ import annotations

import os
import stat
from glob import has_magic, iglob
from pathlib import Path

from stn_core.errors import InvalidInput

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
MAX_FILE_BYTES = 2**28


def picture_files(where: str | os.PathLike[str]) -> list[Path]:
    """The files that ``where`` names, in the order of their names: what a call takes a path for.

    A folder stands for the PNG and JPEG files in it, not below it; a pattern (``photos/**/*.png``) for the files that
    match; a file for itself. InvalidInput if there are none.
    """
    path = Path(where)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file()]
        wanted = "PNG or JPEG files in the folder"
    elif has_magic(os.fspath(where)):
        found = [file for name in iglob(os.fspath(where), recursive=True) if (file := Path(name)).is_file()]
        wanted = "files that match"
    else:
        raise InvalidInput(f"images: expected a file, a folder or a pattern, but there is no {os.fspath(where)!r}")
    if not found:
        raise InvalidInput(f"images: expected {wanted} {os.fspath(where)!r}, found none")
    return sorted(found)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The file's bytes; InvalidInput, with the reason, if it cannot be read or is too large for a picture."""
    name = os.fspath(path)
    try:
        found = os.stat(name)
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may have no end
            raise InvalidInput(f"images: expected a picture file, but {name!r} is none")
        if found.st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"images: expected at most {MAX_FILE_BYTES} bytes in {name!r}, got {found.st_size}")
        with open(name, "rb", buffering=0) as file:  # a third of the time of what pathlib does
            return file.readall()
    except OSError as error:
        raise InvalidInput(f"images: cannot read the file {name!r}: {error.strerror}") from None
    except ValueError as error:  # a name with a null character
        raise InvalidInput(f"images: cannot read the file {name!r}: {error}") from None
