"""The loop all training shares: Adam with cosine decay, reports, guards, logs, and going on after a break."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from stn_core.errors import StnError
from stn_core.stream import Batch, DistortionStream

Progress = Callable[[str, int, int, float], None]
"""Called after some steps with the phase, the steps done, the steps in all and the loss."""

LOG_EVERY_STEPS = 50
SAVE_EVERY_STEPS = 500
MAX_GRADIENT_NORM = 10.0
MAX_AREA_SCALE = 16.0
"""Zoomed out beyond this, a rectified image holds next to nothing of what came."""


class TrainingFailed(StnError):
    """Training went astray; the message says how and what to change."""

    code = "training-failed"


@dataclass(frozen=True)
class Learner:
    """A network that learns in a phase, and Adam's first rate for it."""

    network: Any
    rate: float


@dataclass(frozen=True)
class Phase:
    """One phase: its name, its steps, and the largest loss that a network which has not collapsed can have."""

    name: str
    steps: int
    max_loss: float = float("inf")


@dataclass(frozen=True)
class Journal:
    """Where a training reports to: ``progress``, TensorBoard logs in ``log_dir``, and a folder to go on from."""

    progress: Progress
    log_dir: Path | None = None
    checkpoints: Path | None = None


@dataclass(frozen=True)
class Fitted:
    """What a phase came to: the loss of its first step now, then the mean of each interval between two reports.

    ``seconds`` are those of the whole phase, also of the runs that were broken off, up to where each was saved last.
    """

    losses: list[float]
    seconds: float


class Losses:
    """What a loss function gives for one batch: the ``total`` to lower, and ``area_scale``, which must not grow."""

    def __init__(self, total: tf.Tensor, area_scale: tf.Tensor | None = None) -> None:
        self.values = (total, tf.constant(1.0) if area_scale is None else tf.reduce_mean(area_scale))


def fit(
    learners: Sequence[Learner],
    losses_of: Callable[[Batch], Losses],
    stream: DistortionStream,
    phase: Phase,
    journal: Journal,
) -> Fitted:
    """Trains the learners in place, one batch of ``stream`` a step.

    TrainingFailed if the loss is no number or above the phase's limit, or if the transforms zoom out to nothing.
    """
    optimizers = [_optimizer(learner, phase.steps) for learner in learners]
    state = _State(learners, optimizers, phase, journal.checkpoints)

    @tf.function
    def step(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            values = losses_of(batch).values
        weights = [learner.network.trainable_variables for learner in learners]
        for optimizer, theirs, found in zip(optimizers, weights, tape.gradient(values[0], weights), strict=True):
            gradients, _ = tf.clip_by_global_norm(found, MAX_GRADIENT_NORM)
            optimizer.apply_gradients(zip(gradients, theirs, strict=True))
        return values

    writer = tf.summary.create_file_writer(str(journal.log_dir / phase.name)) if journal.log_dir else None
    context: AbstractContextManager[Any] = writer.as_default() if writer else nullcontext()
    losses: list[float] = []
    with context:
        first = reported = state.restore()
        since = tf.zeros(2)
        for done, batch in zip(range(first + 1, phase.steps + 1), stream.batches(first), strict=False):
            since += tf.stack(step(batch))
            if done in (first + 1, phase.steps) or done % LOG_EVERY_STEPS == 0:
                loss, area_scale = (float(value) for value in since / (done - reported))
                since, reported = tf.zeros(2), done
                _check_health(loss, area_scale, phase, done)
                losses.append(loss)
                journal.progress(phase.name, done, phase.steps, loss)
                if writer:
                    tf.summary.scalar("loss", loss, step=done)
                    tf.summary.scalar("area_scale", area_scale, step=done)
            if done % SAVE_EVERY_STEPS == 0 or done == phase.steps:
                state.save(done)
    return Fitted(losses, state.seconds())


def _optimizer(learner: Learner, steps: int) -> Any:
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(learner.rate, steps))
    optimizer.build(learner.network.trainable_variables)
    return optimizer


def _check_health(loss: float, area_scale: float, phase: Phase, step: int) -> None:
    if not np.isfinite(loss):
        raise TrainingFailed(f"{phase.name}: the loss is {loss} at step {step}; try a lower learning rate")
    if loss > phase.max_loss:
        raise TrainingFailed(
            f"{phase.name}: the loss is {loss:.0f} at step {step}, and no more than {phase.max_loss:.0f} for a network "
            "that works: it has collapsed; try a lower learning rate"
        )
    if area_scale > MAX_AREA_SCALE:
        raise TrainingFailed(
            f"{phase.name}: at step {step} the rectified images are zoomed out to {area_scale:.0f} times the area: the "
            "localization network has collapsed to showing nothing; try a lower rate for it, or a higher corner_weight"
        )


class _State:
    """What a phase goes on from: weights, optimizers and the step, saved in ``folder / phase`` if there is a folder."""

    def __init__(
        self, learners: Sequence[Learner], optimizers: Sequence[Any], phase: Phase, folder: Path | None
    ) -> None:
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._seconds_before = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._started_s = time.monotonic()
        parts = {f"network{i}": learner.network for i, learner in enumerate(learners)}
        parts |= {f"optimizer{i}": optimizer for i, optimizer in enumerate(optimizers)}
        self._manager = None
        if folder is not None:
            checkpoint = tf.train.Checkpoint(step=self._step, seconds=self._seconds_before, **parts)
            self._manager = tf.train.CheckpointManager(checkpoint, str(folder / phase.name), max_to_keep=1)

    def restore(self) -> int:
        """The steps done when it was saved last; 0 for a new beginning."""
        if self._manager is not None:
            self._manager.restore_or_initialize()
        return int(self._step)

    def save(self, step: int) -> None:
        if self._manager is not None:
            self._step.assign(step)
            self._seconds_before.assign(self.seconds())
            self._started_s = time.monotonic()
            self._manager.save(checkpoint_number=step)

    def seconds(self) -> float:
        """Of this run and those before it."""
        return float(self._seconds_before) + time.monotonic() - self._started_s
