"""Trains the networks: the localization network is taught the known theta of fresh distortions, then the classifier
learns behind it.

The distortions are ours, so their theta is known, and it is a far better teacher than the class label. Distortions
are drawn anew for every batch; nothing is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from stn_core.bundle import Manifest, check_fields, check_folder, write_bundle
from stn_core.classifiers import CLASSIFIER_KINDS, build_classifier
from stn_core.datasets import Dataset, Splits
from stn_core.engine import Engine
from stn_core.errors import BadData, StnError
from stn_core.evaluation import evaluate
from stn_core.geometry import CORNERS, apply_affine, composed_parts
from stn_core.localization import LOCALIZATION_KINDS, build_localization
from stn_core.recipes import Recipe, is_affine
from stn_core.stream import Batch, DistortionStream, warp_batch

Progress = Callable[[str, int, int, float], None]
"""Called after each step with the phase, the steps done, the steps in all and the loss."""

LOG_EVERY_STEPS = 50
MAX_HEALTHY_LOSS_SIDES = 2.0
MIN_STEPS_TO_JUDGE = 200
MAX_LOSS_LEFT = 0.9
EVALUATION_SEED = 1_000_003
MIN_SIDE_PX = 16


class TrainingFailed(StnError):
    """Training went astray; the message says how and what to change."""

    code = "training-failed"


class TrainingPlan(BaseModel):
    """How to train: networks, distortions, steps, rates and the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Recipe
    jitter: Recipe | None = None
    localization: str = "deep"
    classifier: str = "cnn"
    seed: int = Field(default=1, ge=0, lt=1 << 31)
    batch_size: int = Field(default=256, ge=2, le=65_536)
    localization_steps: int = Field(default=10_000, ge=1)
    classifier_steps: int = Field(default=12_000, ge=1)
    localization_rate: float = Field(default=2e-3, gt=0, lt=1)
    classifier_rate: float = Field(default=2e-3, gt=0, lt=1)
    localization_original_share: float = Field(default=0.15, ge=0, le=0.9)
    classifier_original_share: float = Field(default=0.4, ge=0, le=0.9)

    @field_validator("jitter")
    @classmethod
    def _affine(cls, value: Recipe | None) -> Recipe | None:
        if value is not None and not is_affine(value):
            raise ValueError(f"expected a recipe of affine steps alone, got {value.name!r}")
        return value

    @field_validator("localization", "classifier")
    @classmethod
    def _known_kind(cls, value: str, info: ValidationInfo) -> str:
        kinds = LOCALIZATION_KINDS if info.field_name == "localization" else CLASSIFIER_KINDS
        if value not in kinds:
            raise ValueError(f"expected one of {', '.join(kinds)}, got {value!r}")
        return value


def train(
    splits: Splits,
    plan: TrainingPlan,
    folder: Path,
    name: str,
    progress: Progress,
    log_dir: Path | None = None,
) -> Manifest:
    """Trains both networks on ``splits.train`` and writes the bundle ``folder``; gives its manifest.

    The bundle carries measures on the validation set, which training may look at, and on the test set, which it looks
    at once, here. BadData where the data does not fit, TrainingFailed where training goes astray.
    """
    data = splits.train
    _check_data(data)
    fields = _manifest_fields(data, plan, name)
    check_fields(fields)  # a bad name or place must fail now, not after the training
    check_folder(folder)
    shape = fields["input_shape"]
    networks = {
        "localization": build_localization(plan.localization, shape, plan.seed),
        "classifier": build_classifier(plan.classifier, shape, len(data.classes), plan.seed),
    }
    started_s = time.monotonic()
    _train_networks(networks, data, plan, progress, log_dir)
    facts = {
        "data": data.name,
        "images": len(data.images),
        "seconds": round(time.monotonic() - started_s, 1),
        "parameters": {part: int(network.count_params()) for part, network in networks.items()},
        **plan.model_dump(mode="json", exclude={"recipe", "jitter"}),
        "jitter": plan.jitter.model_dump(mode="json", exclude_unset=True) if plan.jitter else None,
    }
    engine = Engine(check_fields(fields), networks)
    measured = {
        part: evaluate(engine, held_out, plan.recipe, EVALUATION_SEED)
        for part, held_out in (("validation", splits.validation), ("test", splits.test))
    }
    metrics = {part: evaluation.model_dump(mode="json") for part, evaluation in measured.items()}
    return write_bundle(folder, networks, metrics, training=facts, metrics=measured["test"].summary(), **fields)


def _manifest_fields(data: Dataset, plan: TrainingPlan, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "created": datetime.now(UTC).date().isoformat(),
        "input_shape": (data.images.shape[1], data.images.shape[2], data.images.shape[3]),
        "classes": list(data.classes),
        "fill_fraction": plan.recipe.fill_fraction,
        "recipe": plan.recipe,
    }


def _train_networks(
    networks: dict[str, Any], data: Dataset, plan: TrainingPlan, progress: Progress, log_dir: Path | None
) -> None:
    def stream(original_share: float, seed: int, jitter: Recipe | None = None) -> DistortionStream:
        return DistortionStream(data.images, data.labels, plan.recipe, plan.batch_size, original_share, seed, jitter)

    teach_localization(
        networks["localization"],
        stream(plan.localization_original_share, plan.seed),
        plan.localization_steps,
        plan.localization_rate,
        progress,
        log_dir,
    )
    train_classifier(
        networks["classifier"],
        networks["localization"],
        stream(plan.classifier_original_share, plan.seed + 1, plan.jitter),
        plan.classifier_steps,
        plan.classifier_rate,
        progress,
        plan.recipe.fill_fraction,
        log_dir,
    )


def _check_data(data: Dataset) -> None:
    height, width = data.images.shape[1:3]
    if min(height, width) < MIN_SIDE_PX:
        raise BadData(f"data {data.name}: expected images of at least {MIN_SIDE_PX} px a side, got {height} x {width}")
    if len(data.images) < 2:
        raise BadData(f"data {data.name}: expected at least 2 training images, got {len(data.images)}")


def corner_loss_px(theta_true: tf.Tensor, theta_predicted: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """How far from straight each image is left, ``[B]``: ``geometry.corner_errors_px``, differentiable."""
    x, y = (tf.constant(CORNERS[:, axis], theta_true.dtype)[None] for axis in (0, 1))
    left_x, left_y = apply_affine(theta_true, *apply_affine(theta_predicted, x, y))
    dx, dy = (left_x - x) * (size[1] / 2), (left_y - y) * (size[0] / 2)
    # The square root has no gradient at 0, which is where a straight image is.
    return tf.reduce_mean(tf.sqrt(dx * dx + dy * dy + 1e-6), axis=1)


def teach_localization(
    localization: Any,
    stream: DistortionStream,
    steps: int,
    learning_rate: float,
    progress: Progress,
    log_dir: Path | None = None,
) -> None:
    """Trains ``localization`` in place to undo the stream's known theta (loss: mean corner error in px)."""

    def loss_of(batch: Batch) -> tf.Tensor:
        predicted = tf.reshape(localization(batch.images, training=True), [-1, 2, 3])
        return tf.reduce_mean(corner_loss_px(batch.theta, predicted, tuple(batch.images.shape[1:3])))

    side_px = max(localization.input_shape[1:3])
    losses = _fit(
        localization, loss_of, stream, _Phase("localization", steps, learning_rate, side_px), progress, log_dir
    )
    # A new network starts at the identity, so the first loss is that of no rectification at all.
    if steps >= MIN_STEPS_TO_JUDGE and losses[-1] > MAX_LOSS_LEFT * losses[0]:
        raise TrainingFailed(
            f"localization: after {steps} steps the corners are {losses[-1]:.1f} px off, {losses[0]:.1f} px without "
            "rectification: nothing was learned; try a lower learning rate"
        )


def train_classifier(
    classifier: Any,
    localization: Any,
    stream: DistortionStream,
    steps: int,
    learning_rate: float,
    progress: Progress,
    fill_value: float = 0.0,
    log_dir: Path | None = None,
) -> None:
    """Trains ``classifier`` in place on the stream's images as ``localization``, left as it is, rectifies them.

    Each rectified image is moved by the stream's jitter, so that the classifier forgives what is left crooked.
    """
    cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss_of(batch: Batch) -> tf.Tensor:
        predicted = tf.reshape(localization(batch.images, training=False), [-1, 2, 3])
        # One warp for both, so that the image is interpolated once.
        moved = tf.concat(composed_parts(predicted, batch.jitter), axis=2)
        rectified = warp_batch(batch.images, moved, fill_value)
        return cross_entropy(batch.labels, classifier(tf.stop_gradient(rectified), training=True))

    _fit(classifier, loss_of, stream, _Phase("classifier", steps, learning_rate), progress, log_dir)


@dataclass(frozen=True)
class _Phase:
    """One network's turn; ``side_px`` is set where the loss is a distance in the image."""

    name: str
    steps: int
    learning_rate: float
    side_px: int | None = None


def _fit(
    network: Any,
    loss_of: Callable[[Batch], tf.Tensor],
    stream: DistortionStream,
    phase: _Phase,
    progress: Progress,
    log_dir: Path | None,
) -> list[float]:
    """Adam with cosine decay to zero over the phase's steps, one batch of ``stream`` each.

    Gives the loss of the first step, then the mean of each interval between two reports.
    """
    schedule = tf_keras.optimizers.schedules.CosineDecay(phase.learning_rate, phase.steps)
    optimizer = tf_keras.optimizers.Adam(schedule)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(batch: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(batch)
        gradients = tape.gradient(loss, network.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 10.0)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    writer = tf.summary.create_file_writer(str(log_dir / phase.name)) if log_dir else None
    context: AbstractContextManager[Any] = writer.as_default() if writer else nullcontext()
    losses: list[float] = []
    with context:
        since, reported = tf.constant(0.0), 0
        for done, batch in zip(range(1, phase.steps + 1), stream, strict=False):
            since += step(batch)
            if done == 1 or done % LOG_EVERY_STEPS == 0 or done == phase.steps:
                losses.append(float(since) / (done - reported))
                since, reported = tf.constant(0.0), done
                _check_health(losses[-1], phase, done)
                progress(phase.name, done, phase.steps, losses[-1])
                if writer:
                    tf.summary.scalar("loss", losses[-1], step=done)
    return losses


def _check_health(loss: float, phase: _Phase, step: int) -> None:
    if not np.isfinite(loss):
        raise TrainingFailed(f"{phase.name}: the loss is {loss} at step {step}; try a lower learning rate")
    if phase.side_px is not None and loss > MAX_HEALTHY_LOSS_SIDES * phase.side_px:
        raise TrainingFailed(
            f"{phase.name}: at step {step} the corners of a {phase.side_px} px image are {loss:.0f} px off: the "
            "network has collapsed; try a lower learning rate"
        )
