"""A bulk job whose driver is killed at random times, and begun again each time: nothing is lost, nothing there twice.

    make drills PARTS=bulk_resume           6 kills for each format; KILLS=20 for others

The same job is done without a break first; at the end each file of both must have the same bytes. A job is begun again
at once, while what the killed driver started may still be at work.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pyarrow import parquet

from drills.outcome import Counts, Outcome, unless
from services.processes import adopt_orphans, descendants, end_descendants
from stn_core.datasets import sample_digits
from stn_core.png import encode_png

KILLS = int(os.environ.get("KILLS", "6"))
IMAGES, COPIES, SHARD_IMAGES, SEED = 2_000, 5, 20, 7
BROKEN = 3
FORMATS = ("files", "parquet")
WAIT_S = 300.0
_GONE_S = 30.0


def drill() -> Iterator[Outcome]:
    """An outcome for each format."""
    adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        _make_files(source)
        for kind in FORMATS:
            yield _one(kind, source, Path(folder) / kind)
        end_descendants()


def _one(kind: str, source: Path, folder: Path) -> Outcome:
    words = ["augment", "--bulk", str(source), "-r", "--recipe", "tutorial-mix", "--copies", str(COPIES)]
    words += ["--format", kind, "--shard-images", str(SHARD_IMAGES), "--no-progress", "--json"]
    whole = _finished(words, folder / "whole")
    chance = random.Random(SEED)
    done_at_kills = []
    for _ in range(KILLS):
        done_at_kills.append(_killed(words, folder / "broken", chance))
    last = _finished(words, folder / "broken")
    counts = _compared(folder / "whole", folder / "broken")
    rows = _rows(folder / "broken", kind)
    expected = IMAGES * COPIES
    left = _left()
    failures = unless(
        (counts.right == counts.sent, f"{counts.wrong} files differ and {counts.lost} are missing"),
        (len(rows) == expected, f"{len(rows):,} rows instead of {expected:,}"),
        (len(set(rows)) == len(rows), f"{len(rows) - len(set(rows)):,} rows are there twice"),
        (last["failed"] == BROKEN, f"{last['failed']} bad files were told of instead of {BROKEN}"),
        (last["done_before"] > 0, "the last run did all anew"),
        (not left, f"processes are left: {', '.join(left)}"),
    )
    figures: dict[str, Any] = {
        "kills": KILLS,
        "shards_done_at_kills": done_at_kills,
        "shards": whole["shards"],
        "rows": len(rows),
        "unbroken_s": whole["seconds"],
        "last_run_s": last["seconds"],
    }
    told = f"{KILLS} kills, at {', '.join(map(str, done_at_kills))} of {whole['shards']} shards; {len(rows):,} rows"
    promise = "after kill -9 at any time the same command ends with the very bytes of a job that ran through"
    return Outcome(f"Bulk job killed ({kind})", promise, counts, figures, failures, told)


def _make_files(folder: Path) -> None:
    digits = sample_digits()
    for number in range(IMAGES):
        place = folder / str(digits.labels[number]) / f"{number:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode_png(digits.images[number]))
    for number in range(BROKEN):
        (folder / "0" / f"broken-{number}.png").write_bytes(b"no picture")


def _begun(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "stn_cli", *words, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _finished(words: list[str], out: Path) -> dict[str, Any]:
    process = _begun(words, out)
    said, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1, f"expected status 1, as some files are bad, got {process.returncode}"
    told: dict[str, Any] = orjson.loads(said)
    return told


def _killed(words: list[str], out: Path, chance: random.Random) -> int:
    """Begins the job, kills its driver some time after it has done another shard; how many are done then."""
    before, process = _done(out), _begun(words, out)
    deadline_s = time.monotonic() + WAIT_S
    while _done(out) == before and process.poll() is None:
        assert time.monotonic() < deadline_s, "no shard was done in time"
        time.sleep(0.001)
    time.sleep(chance.expovariate(10))  # of a second, in the mean a tenth
    process.kill()
    process.communicate()
    return _done(out)


def _done(out: Path) -> int:
    markers = out / "_stn" / "done"
    return len(list(markers.iterdir())) if markers.is_dir() else 0


def _results(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and "_stn" not in file.parts)
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def _compared(whole: Path, broken: Path) -> Counts:
    """Of the files of both folders: those that are the same, that differ or are too many, and that are missing."""
    expected, found = _results(whole), _results(broken)
    right = sum(found.get(name) == content for name, content in expected.items())
    lost = len(expected.keys() - found.keys())
    sent = len(expected.keys() | found.keys())
    return Counts(sent=sent, right=right, wrong=sent - right - lost, lost=lost)


def _rows(out: Path, kind: str) -> list[tuple[str, int]]:
    if kind == "parquet":
        parts = sorted(out.glob("*.parquet"))
        found = [row for part in parts for row in parquet.read_table(part, columns=["file", "copy"]).to_pylist()]
    else:
        parts = sorted((out / "rows").iterdir())
        found = [orjson.loads(line) for part in parts for line in part.read_bytes().splitlines()]
    return [(row["file"], row["copy"]) for row in found]


def _left() -> list[str]:
    """What is still there of the processes of all jobs, after they had time to go.

    They are this process's orphans, and it must bury them: to those that watch for its death, one that nobody has
    waited for is alive.
    """
    deadline_s = time.monotonic() + _GONE_S
    while (left := sorted(set(descendants().values()))) and time.monotonic() < deadline_s:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.2)
    return left
