"""What the weights in a ``.keras`` file may be: arrays that lie in it. Keras itself would read others."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stn_core.errors import BadBundle, brief

WEIGHTS = "model.weights.h5"
MEMBERS = ("metadata.json", "config.json", WEIGHTS)
"""All that Keras writes for a network; it would read an npz of NumPy's too, and unpack whatever else there is."""


def check_weights(path: Path) -> None:
    """BadBundle if the ``.keras`` file ``path`` holds anything else, or its weights point to another file.

    HDF5 can have a link lead to a file, and a data set's values lie in one: that of a password, say.
    """
    import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sorted(names) != sorted(MEMBERS):
                foreign = next((name for name in names if name not in MEMBERS), None)
                found = "other members" if foreign is None else brief(foreign)
                raise BadBundle(f"{path}: expected {', '.join(MEMBERS)} in it, each once, got {found}")
            with h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r") as weights:
                pointer = next(_pointers(weights), None)
    except BadBundle:
        raise
    except Exception as error:  # h5py and zipfile raise many kinds for broken files
        raise BadBundle(f"{path}: expected weights in HDF5, got something else: {brief(str(error))}") from None
    if pointer is not None:
        raise BadBundle(f"{path}: the weights {brief(pointer)} lie elsewhere; a network holds its own")


def _pointers(weights: Any) -> Iterator[str]:
    """The names of all that does not lie where it stands."""
    import h5py

    groups, seen = [weights], set()
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # links may go in a circle
            continue
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                yield name
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                yield name
