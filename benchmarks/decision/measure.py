"""Measures what the shipped bundle's decisions do on the full MNIST test set, into results.json and decision.png.

    .venv/bin/python benchmarks/decision/measure.py

Test digits as they are, distorted by each shipped recipe (those on a canvas are brought to 28 x 28 afterwards), the
cluttered MNIST file, and images that show no digit; what the classifier reads as they come, always rectified, and as
decided. Some minutes. ``--part validation --limit 1000 --out FOLDER`` is for a look while something is being chosen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from chart import write_chart
from numpy.typing import NDArray

from stn_core import datasets
from stn_core.augment import augment
from stn_core.confidence import EVIDENCE
from stn_core.confidence.calibrating import joined, observe
from stn_core.confidence.non_pictures import GENERATED, shuffled
from stn_core.confidence.situations import Batch, situations
from stn_core.decision import MIN_MOTION_PX, REASONS, decide
from stn_core.engine import Engine
from stn_core.errors import BadData
from stn_core.evaluation.reliability import auc, reliability
from stn_core.geometry import identity
from stn_core.motion import off_px
from stn_core.provenance import provenance
from stn_core.recipes import load_recipe, parse_recipe, shipped_recipes

FOLDER = Path(__file__).parent
SEED, SITUATIONS_SEED = 1_000_003, 2_000_003
MIN_CONFIDENCES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
# What no bundle was calibrated on: straight digits whose pixels suffered, and distorted ones.
DAMAGES: dict[str, list[dict[str, Any]]] = {
    "straight, noise of 5 %": [{"op": "gaussian_noise", "sd_fraction": 0.05}],
    "straight, blurred by 1 px": [{"op": "gaussian_blur", "sigma_px": 1.0}],
    "straight, dark and light swapped": [{"op": "invert"}],
    "tutorial-mix, noise of 5 %": [{"op": "gaussian_noise", "sd_fraction": 0.05}],
}
NONSENSE_EACH, MIXED = 2_500, 20_000
BATCH, TIMED_BATCHES = 500, (1, 16, 64, 256)


@dataclass(frozen=True)
class Images:
    """A set to measure; ``theta_true`` is None where nobody knows it, ``labels`` are -1 where there is no digit."""

    name: str
    images: NDArray[Any]
    labels: NDArray[np.int64]
    theta_true: NDArray[np.float64] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, help="where the data lie, if not in one of the usual places")
    parser.add_argument("--part", choices=("test", "validation"), default="test")
    parser.add_argument("--limit", type=int, help="about so many images of the part")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    engine = Engine.load("digits")
    data = getattr(datasets.load("mnist", path=arguments.data_path), arguments.part).limit(arguments.limit)
    results: dict[str, Any] = {
        **provenance(),
        "bundle": {"name": engine.manifest.name, "version": engine.manifest.version},
        "part": arguments.part,
        "limits": engine.limits.model_dump(),
        "situations": _of_situations(engine, data, min(MIXED, 4 * len(data))),
        "sets": {},
        "processor_time_an_image_us": _times_us(
            engine, augment(data.images[: max(TIMED_BATCHES)], engine.manifest.recipe, SEED).images
        ),
    }
    for one in _sets(engine, data, arguments.data_path, arguments.part):
        results["sets"][one.name] = _measured(engine, one)
        print(one.name, _line(results["sets"][one.name]), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    write_chart(arguments.out / "decision.png", results)


def _sets(engine: Engine, data: datasets.Dataset, path: Path | None, part: str) -> Iterator[Images]:
    size = engine.manifest.input_shape[:2]
    yield Images("as they are", data.images, data.labels, identity(len(data)))
    for name in shipped_recipes():
        made = augment(data.images, load_recipe(name), SEED)
        images = engine.warp(made.images, identity(len(data)), size)  # another size only where there is a canvas
        yield Images(name, images, data.labels, made.theta)
    for name, steps in DAMAGES.items():
        before = load_recipe("tutorial-mix").model_dump()["steps"] if name.startswith("tutorial-mix") else []
        made = augment(data.images, parse_recipe({"name": "damage", "steps": [*before, *steps]}), SEED)
        yield Images(name, made.images, data.labels, made.theta)
    try:
        cluttered = getattr(datasets.load("cluttered-mnist", path=path), part)
    except BadData as error:
        print(error)
    else:
        yield Images(
            "cluttered file", engine.warp(cluttered.images, identity(len(cluttered)), size), cluttered.labels, None
        )
    random, count = np.random.default_rng(SEED), min(NONSENSE_EACH, len(data))
    nothing = {name: make(count, engine.manifest.input_shape, random) for name, make in GENERATED.items()}
    nothing = {name: np.round(images * 255).astype(np.uint8) for name, images in nothing.items()}
    for name, images in {**nothing, "shuffled digits": shuffled(data.images[:count], random)}.items():
        yield Images(name, images, np.full(count, -1), identity(count))


def _measured(engine: Engine, one: Images) -> dict[str, Any]:
    """What the decisions do for the images of one set, at every threshold and with both kinds of evidence."""
    seen = [_seen(engine, one, slice(start, start + BATCH)) for start in range(0, len(one.images), BATCH)]
    columns = {name: np.concatenate([batch[name] for batch in seen], axis=-1) for name in seen[0]}
    kept, rectified = columns["right_kept"], columns["right_rectified"]
    hurt, helped = kept & ~rectified, rectified & ~kept
    found: dict[str, Any] = {"images": len(kept)}
    if one.labels[0] >= 0:
        found["accuracy_as_it_comes"] = _rounded(kept.mean())
        found["accuracy_rectified"] = _rounded(rectified.mean())
        found["hurt_rate"], found["helped_rate"] = _rounded(hurt.mean()), _rounded(helped.mean())
    for evidence in EVIDENCE:
        confidence = columns[evidence]
        by_threshold = {}
        for number, least in enumerate(_thresholds(engine)):
            chosen = columns[f"rectified_{evidence}"][number]
            by_threshold[str(least)] = {"kept": _rounded(1 - chosen.mean())}
            if one.labels[0] >= 0:
                by_threshold[str(least)] |= {
                    "accuracy": _rounded(np.where(chosen, rectified, kept).mean()),
                    "hurt_rate": _rounded((hurt & chosen).mean()),
                    "helped_rate": _rounded((helped & chosen).mean()),
                }
        found[evidence] = {
            "confidence": _rounded(confidence.mean()),
            "auc_for_not_hurt": _rounded(auc(confidence, ~hurt)),
            **(_trust(confidence, columns["harmless"]) if one.theta_true is not None else {}),
            "by_min_confidence": by_threshold,
        }
    reasons = Counter(REASONS[code] for code in columns["reason"].tolist())
    return {**found, "reasons": {name: _rounded(reasons[name] / len(kept)) for name in REASONS if reasons[name]}}


def _seen(engine: Engine, one: Images, rows: slice) -> dict[str, NDArray[Any]]:
    """A batch observed once, and decided at every threshold; ``[N]``, and ``[thresholds, N]`` for what is rectified."""
    assert engine.calibration is not None
    images, labels = one.images[rows], one.labels[rows]
    seen = engine.observe(images, EVIDENCE, engine.calibration.original_size)
    assert seen.probabilities is not None
    after, before = (reading.argmax(axis=1) == labels for reading in seen.probabilities)
    found: dict[str, NDArray[Any]] = {"right_rectified": after, "right_kept": before}
    for evidence in EVIDENCE:
        confidence = engine.calibration.models[evidence].probability(seen.features[evidence])
        limits = [engine.limits.changed({"min_confidence": least}) for least in _thresholds(engine)]
        decided = [decide(seen.motion, seen.content_kept, confidence, each) for each in limits]
        found[evidence] = confidence
        found[f"rectified_{evidence}"] = np.stack([each.rectified for each in decided])
        if evidence == "theta":
            found["reason"] = decide(seen.motion, seen.content_kept, confidence, engine.limits).reason
    if one.theta_true is not None:
        true, size = one.theta_true[rows], engine.calibration.original_size
        kept_px = off_px(identity(len(true)), size, true)
        most_px = np.maximum(kept_px + MIN_MOTION_PX, engine.calibration.tolerance_px)
        found["harmless"] = off_px(seen.theta, size, true) <= most_px
    return found


def _thresholds(engine: Engine) -> list[float]:
    """Those above, and the bundle's own."""
    return sorted({*MIN_CONFIDENCES, engine.limits.min_confidence})


def _trust(confidence: NDArray[Any], harmless: NDArray[np.bool_]) -> dict[str, Any]:
    found = reliability(confidence, harmless)
    return {
        "harmless": _rounded(harmless.mean()),
        "calibration_error": _rounded(found.error),
        "auc": _rounded(auc(confidence, harmless)),
        "bins": {"confidence": found.confidence.round(4).tolist(), "harmless": found.share.round(4).tolist()},
    }


def _of_situations(engine: Engine, data: datasets.Dataset, count: int) -> dict[str, Any]:
    """How far the confidence can be trusted on the mixture it was calibrated for, made of digits of this part."""
    assert engine.calibration is not None
    size, tolerance_px = engine.calibration.original_size, engine.calibration.tolerance_px
    batches: Iterator[Batch] = situations(engine.manifest, data, None, count, SITUATIONS_SEED)
    outcome = joined([observe(engine, batch, size, tolerance_px) for batch in batches])
    models = engine.calibration.models
    trust = {
        evidence: _trust(models[evidence].probability(outcome.features[evidence]), outcome.harmless)
        for evidence in EVIDENCE
    }
    return {"images": len(outcome.harmless), **trust}


def _times_us(engine: Engine, images: NDArray[Any], runs: int = 15) -> dict[str, Any]:
    """The median processor time an image of localization, of rectification, and of a decision with all it takes.

    In turn; what a decision takes beside the other two is the median of the differences. Processor time, of all
    threads, as the machine may be shared.
    """
    calls = {"localize": engine.localize, "rectify": engine.rectify, "decide": engine.decide}
    found: dict[str, Any] = {}
    for size in TIMED_BATCHES:
        batch, repeats = images[:size], max(4, 2048 // size)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _, (name, call) in itertools.product(range(runs), calls.items()):
            started_s = time.process_time()
            for _ in range(repeats):
                call(batch)
            times[name].append((time.process_time() - started_s) / repeats / size * 1e6)
        times["beside_the_networks"] = [
            whole - first - second
            for whole, first, second in zip(times["decide"], times["rectify"], times["localize"], strict=True)
        ]
        found[str(size)] = {name: round(float(np.median(each)), 1) for name, each in times.items()}
    return found


def _rounded(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _line(found: dict[str, Any]) -> str:
    head = ""
    if "hurt_rate" in found:
        head = f"as it comes {found['accuracy_as_it_comes']}, rectified {found['accuracy_rectified']}, "
        head += f"hurt {found['hurt_rate']}, helped {found['helped_rate']}; "
    parts = []
    for evidence in EVIDENCE:
        each = found[evidence]["by_min_confidence"]
        parts.append(
            f"{evidence} {found[evidence].get('harmless')} ~ {found[evidence]['confidence']}: "
            + ", ".join(f"{least} {'/'.join(map(str, one.values()))}" for least, one in each.items())
        )
    return head + "; ".join(parts)


if __name__ == "__main__":
    main()
