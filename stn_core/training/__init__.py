"""Trains the networks: the localization network is taught the known theta of fresh distortions, then the classifier
learns behind it, then both are tuned together.

The distortions are ours, so their theta is known, and it is a far better teacher than the class label. Distortions
are drawn anew for every batch; nothing is stored.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stn_core.backends.tensorflow import TensorFlowBackend
from stn_core.bundle import Manifest, check_fields, check_folder, load_network, read_manifest, write_bundle
from stn_core.classifiers import build_classifier
from stn_core.compact import round_weights
from stn_core.confidence import Calibration
from stn_core.confidence.calibrating import calibrate
from stn_core.datasets import Dataset, Splits
from stn_core.engine import Engine
from stn_core.errors import BadData, Unsupported, brief
from stn_core.evaluation import evaluate
from stn_core.geometry import invert
from stn_core.localization import build_localization
from stn_core.recipes import Recipe, canvas_theta, distorted_size
from stn_core.stream import DistortionStream
from stn_core.training.fitting import Journal, Phase, Progress, TrainingFailed
from stn_core.training.losses import corner_loss_px
from stn_core.training.own import OwnClassifier, load_classifier
from stn_core.training.phases import teach_localization, train_classifier, train_together
from stn_core.training.plan import OWN_CLASSIFIER, TrainingPlan

__all__ = [
    "Journal",
    "OwnClassifier",
    "Progress",
    "TrainingFailed",
    "TrainingPlan",
    "corner_loss_px",
    "load_classifier",
    "train",
]

logger = logging.getLogger(__name__)

EVALUATION_SEED = 1_000_003
MIN_SIDE_PX = 16
PLAN_FILE = "plan.json"


def train(
    splits: Splits,
    plan: TrainingPlan,
    folder: Path,
    name: str,
    journal: Journal,
    own: OwnClassifier | None = None,
    version: str = "1",
) -> Manifest:
    """Trains both networks on ``splits.train`` and writes the bundle ``folder``; gives its manifest.

    ``name`` and ``version``, a whole number, are the bundle's; ``own`` is a classifier trained already, for the plan's
    classifier ``own``. With ``journal.checkpoints``, a training that was broken off goes on where it was last saved.
    The bundle carries measures on the validation set, which training may look at, and on the test set, which it looks
    at once, here; its confidence is calibrated on the validation set. BadData where the data does not fit,
    TrainingFailed where training goes astray.
    """
    data = splits.train
    _check_data(data)
    if (plan.classifier == OWN_CLASSIFIER) != (own is not None):
        raise ValueError(f"own: give a classifier with the plan's classifier {OWN_CLASSIFIER!r}, and only then")
    if own is not None:
        _check_own(own, data)
        plan = plan.model_copy(update={"rectified_size": own.size})
    fields = {"name": name, "version": version, **_manifest_fields(data, plan, own)}
    checked = check_fields(fields)  # a bad name or place must fail now, not after the training
    check_folder(folder)
    if journal.checkpoints is not None:
        _check_plan(journal.checkpoints, plan, data)
    networks = _networks(data, plan, checked, own)
    if plan.start_from is not None:
        _take_weights(networks, plan.start_from, own)
    seconds = _train_networks(networks, data, plan, journal)
    for part, network in networks.items():
        if part == "localization" or own is None:
            round_weights(network)
    facts = {
        "data": data.name,
        "images": len(data.images),
        "seconds": round(seconds, 1),
        "parameters": {part: int(network.count_params()) for part, network in networks.items()},
        **plan.model_dump(mode="json", exclude={"recipe", "jitter", "start_from"}),
        "started_from": _bundle_and_version(plan.start_from),
        "jitter": plan.jitter.model_dump(mode="json", exclude_unset=True) if plan.jitter else None,
    }
    engine = Engine(checked.model_copy(update={"training": facts}), TensorFlowBackend(checked, networks))
    measured = {
        part: evaluate(engine, held_out, plan.recipe, EVALUATION_SEED)
        for part, held_out in (("validation", splits.validation), ("test", splits.test))
    }
    metrics = {part: evaluation.model_dump(mode="json") for part, evaluation in measured.items()}
    calibration = _calibration(engine, splits.validation, plan.seed)
    summary = measured["test"].summary()
    return write_bundle(folder, networks, metrics, calibration, training=facts, metrics=summary, **fields)


def _calibration(engine: Engine, validation: Dataset, seed: int) -> Calibration | None:
    """By the validation images; None, with a note, where they are too few or nothing tells what is straight."""
    try:
        return calibrate(engine, validation, seed=seed)
    except (BadData, Unsupported) as error:
        logger.warning("%s; the bundle has limits, and no confidence", error)
        return None


def _manifest_fields(data: Dataset, plan: TrainingPlan, own: OwnClassifier | None) -> dict[str, Any]:
    height, width, channels = data.images.shape[1:]
    came = distorted_size(plan.recipe, (height, width))
    rectified = plan.rectified_size or (height, width)
    return {
        "created": datetime.now(UTC).date().isoformat(),
        "input_shape": (*came, channels),
        "rectified_size": None if rectified == came else rectified,
        "transform": plan.transform,
        "passes": plan.passes,
        "classifier_gives": own.gives if own else "logits",
        "classes": list(data.classes),
        "fill_fraction": plan.recipe.fill_fraction,
        "recipe": plan.recipe,
    }


def _networks(data: Dataset, plan: TrainingPlan, manifest: Manifest, own: OwnClassifier | None) -> dict[str, Any]:
    # The untrained network answers with what undoes the canvas, the identity without one.
    start = invert(canvas_theta(plan.recipe, data.image_shape[:2])[None])[0]
    return {
        "localization": build_localization(
            plan.localization, manifest.input_shape, plan.seed, plan.transform, start, plan.view
        ),
        "classifier": own.network
        if own
        else build_classifier(plan.classifier, manifest.rectified_shape, len(data.classes), plan.seed),
    }


def _take_weights(networks: dict[str, Any], source: str, own: OwnClassifier | None) -> None:
    """Gives the networks the weights that those of the bundle ``source`` have; BadData where the layers differ."""
    read_manifest(source)
    for part, network in networks.items():
        if part == "classifier" and own is not None:
            continue
        weights = load_network(source, part).get_weights()
        if [one.shape for one in weights] != [one.shape for one in network.get_weights()]:
            raise BadData(
                f"bundle {source}: its {part} network has other layers than this training's; start from a bundle of "
                "the same networks, transform and image size"
            )
        network.set_weights(weights)


def _bundle_and_version(source: str | None) -> str | None:
    if source is None:
        return None
    manifest = read_manifest(source)
    return f"{manifest.name} {manifest.version}"


def _train_networks(networks: dict[str, Any], data: Dataset, plan: TrainingPlan, journal: Journal) -> float:
    """Trains them in place; gives the seconds of all phases, those of runs that were broken off included."""

    def stream(original_share: float, seed: int, jitter: Recipe | None = None) -> DistortionStream:
        return DistortionStream(
            data.images, data.labels, plan.recipe, plan.batch_size, original_share, seed, jitter, plan.rendered_share
        )

    localization, classifier, seconds = networks["localization"], networks["classifier"], 0.0
    if plan.localization_steps:
        seconds += teach_localization(localization, stream(plan.localization_original_share, plan.seed), plan, journal)
    teacher = None
    if plan.teacher_steps:
        teacher = build_classifier("large", classifier.input_shape[1:], len(data.classes), plan.seed)
        batches = stream(plan.classifier_original_share, plan.seed + 3, plan.jitter)
        seconds += train_classifier(teacher, localization, batches, plan, Phase("teacher", plan.teacher_steps), journal)
    if plan.classifier_steps:
        batches = stream(plan.classifier_original_share, plan.seed + 1, plan.jitter)
        phase = Phase("classifier", plan.classifier_steps)
        seconds += train_classifier(classifier, localization, batches, plan, phase, journal, teacher)
    if plan.joint_steps:
        batches = stream(plan.classifier_original_share, plan.seed + 2, plan.jitter)
        seconds += train_together(classifier, localization, batches, plan, journal)
    return seconds


def _check_data(data: Dataset) -> None:
    height, width = data.images.shape[1:3]
    if min(height, width) < MIN_SIDE_PX:
        raise BadData(
            f"data {data.name}: expected images of at least {MIN_SIDE_PX} px a side, got {height} x {width}; give a "
            "size to resize them to"
        )
    if len(data.images) < 2:
        raise BadData(f"data {data.name}: expected at least 2 training images, got {len(data.images)}")


def _check_own(own: OwnClassifier, data: Dataset) -> None:
    if own.channels != data.images.shape[3]:
        raise BadData(
            f"data {data.name}: expected the classifier's {own.channels} channels, got {data.images.shape[3]}; give "
            "the number of channels to read the images with"
        )
    if own.classes != len(data.classes):
        raise BadData(
            f"data {data.name}: expected the classifier's {own.classes} classes, in its order, got "
            f"{len(data.classes)} ({brief(data.classes)})"
        )


def _check_plan(folder: Path, plan: TrainingPlan, data: Dataset) -> None:
    """Checkpoints go with the plan and the data they were made by; BadData if those in ``folder`` are of others."""
    written = json.dumps({"data": [data.name, *data.images.shape], **plan.model_dump(mode="json")}, indent=2)
    file = folder / PLAN_FILE
    if file.is_file() and file.read_text() != written:
        raise BadData(f"{folder}: the checkpoints are of another plan or other data; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(written)
