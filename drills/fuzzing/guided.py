"""A target's inputs by coverage, with atheris (libFuzzer), which is installed by hand: ``pip install atheris``."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from pathlib import Path

from stn_core.errors import StnError


def guide(name: str, runs: int, seed: int) -> int:
    """Lets libFuzzer look for ``runs`` inputs; ends the process with its own status, 0 if nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["stn_core", "services", "stn_client", "python_multipart"]):
        from drills.fuzzing.mutations import mutated
        from drills.fuzzing.targets import TARGETS

        read, seeds = TARGETS[name].make()
    atheris.instrument_func(read)

    def once(data: bytes) -> None:
        with contextlib.suppress(StnError):
            read(data)

    def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
        """Half of the time ours, which know what parsers know, else libFuzzer's own."""
        if seed % 2:
            return mutated(random.Random(seed), [data, *seeds])[:most_bytes]
        return bytes(atheris.Mutate(data, most_bytes))

    corpus = Path(tempfile.mkdtemp(prefix=f"stn-corpus-{name}-"))
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    options = [f"-runs={runs}", f"-seed={seed}", "-timeout=30", "-rss_limit_mb=4096", "-max_len=65536"]
    atheris.Setup([sys.argv[0], str(corpus), *options], once, custom_mutator=mutate)
    atheris.Fuzz()
    return 0
