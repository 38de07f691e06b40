"""The three phases of training: theta, then the class behind it, then both together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from stn_core.geometry import invert
from stn_core.recipes import canvas_theta
from stn_core.refinement import localize, localize_each
from stn_core.stream import Batch, DistortionStream, warp_batch, warp_batch_through
from stn_core.training.fitting import Journal, Learner, Losses, Phase, TrainingFailed, fit
from stn_core.training.losses import area_scale, corner_loss_px
from stn_core.training.plan import TrainingPlan

MAX_HEALTHY_LOSS_SIDES = 2.0
MIN_STEPS_TO_JUDGE = 200
MAX_LOSS_LEFT = 0.9
TEMPERATURE = 3.0
TEACHER_WEIGHT = 0.7


def teach_localization(localization: Any, stream: DistortionStream, plan: TrainingPlan, journal: Journal) -> float:
    """Trains ``localization`` in place to undo the stream's known theta (loss: mean corner error in px).

    Gives the seconds it took. Where a batch has images whose theta does not tell all, they do not count. TrainingFailed
    if nothing is learned.
    """
    size = stream.original_size

    def mean_error_px(batch: Batch, thetas: Sequence[tf.Tensor]) -> tf.Tensor:
        known = tf.cast(batch.exact, tf.float32)
        errors = tf.add_n([corner_loss_px(batch.theta, theta, size) for theta in thetas]) / len(thetas)
        return tf.reduce_sum(errors * known) / tf.maximum(tf.reduce_sum(known), 1.0)

    def losses_of(batch: Batch) -> Losses:
        thetas = localize_each(localization, batch.images, plan.passes, plan.recipe.fill_fraction, training=True)
        return Losses(mean_error_px(batch, thetas))

    phase = Phase("localization", plan.localization_steps, MAX_HEALTHY_LOSS_SIDES * max(size))
    fitted = fit([Learner(localization, plan.localization_rate)], losses_of, stream, phase, journal)
    losses = fitted.losses
    first = next(stream.batches())
    straight_as_it_comes = tf.constant(invert(canvas_theta(plan.recipe, size)[None]), tf.float32)
    before_px = float(mean_error_px(first, [tf.tile(straight_as_it_comes, [len(first.labels), 1, 1])]))
    if plan.localization_steps >= MIN_STEPS_TO_JUDGE and losses and losses[-1] > MAX_LOSS_LEFT * before_px:
        raise TrainingFailed(
            f"localization: after {phase.steps} steps the corners are {losses[-1]:.1f} px off, {before_px:.1f} px "
            "without rectification: nothing was learned; try a lower learning rate"
        )
    return fitted.seconds


def train_classifier(
    classifier: Any,
    localization: Any,
    stream: DistortionStream,
    plan: TrainingPlan,
    phase: Phase,
    journal: Journal,
    teacher: Any | None = None,
) -> float:
    """Trains ``classifier`` in place on the stream's images as ``localization``, left as it is, rectifies them.

    Gives the seconds it took. Each rectified image is moved by the stream's jitter, so that the classifier forgives
    what is left crooked. With a ``teacher`` it learns the teacher's softened probabilities beside the label.
    """
    cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def losses_of(batch: Batch) -> Losses:
        theta = localize(localization, batch.images, plan.passes, plan.recipe.fill_fraction, training=False)
        rectified = tf.stop_gradient(_rectified(batch, theta, plan, stream))
        logits = classifier(rectified, training=True)
        loss = cross_entropy(batch.labels, logits)
        if teacher is not None:
            taught = _distillation(teacher(rectified, training=False), logits)
            loss = (1 - TEACHER_WEIGHT) * loss + TEACHER_WEIGHT * taught
        return Losses(loss)

    return fit([Learner(classifier, plan.classifier_rate)], losses_of, stream, phase, journal).seconds


def _distillation(teacher_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy to the teacher at a temperature, whose square keeps the gradients' size (arXiv 1503.02531)."""
    soft = tf.nn.softmax(teacher_logits / TEMPERATURE)
    each = tf.nn.softmax_cross_entropy_with_logits(tf.stop_gradient(soft), logits / TEMPERATURE)
    return tf.reduce_mean(each) * TEMPERATURE**2


def train_together(
    classifier: Any, localization: Any, stream: DistortionStream, plan: TrainingPlan, journal: Journal
) -> float:
    """Fine-tunes both in place: cross-entropy behind the transformer, plus the weighted corner error where known.

    Gives the seconds it took. The localization network keeps its batch statistics. TrainingFailed if it collapses to
    zooming out.
    """
    cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    size = stream.original_size
    # From scratch, batch statistics must be learned; after phase one they are better left alone.
    from_scratch = plan.localization_steps == 0

    def losses_of(batch: Batch) -> Losses:
        theta = localize(localization, batch.images, plan.passes, plan.recipe.fill_fraction, training=from_scratch)
        loss = cross_entropy(batch.labels, classifier(_rectified(batch, theta, plan, stream), training=True))
        if plan.corner_weight:
            errors = corner_loss_px(batch.theta, theta, size) * tf.cast(batch.exact, tf.float32)
            loss += plan.corner_weight * tf.reduce_mean(errors) / (max(size) / 2)
        return Losses(loss, area_scale(theta))

    learners = [
        Learner(classifier, plan.joint_rate),
        Learner(localization, plan.joint_rate * plan.joint_localization_factor),
    ]
    return fit(learners, losses_of, stream, Phase("joint", plan.joint_steps), journal).seconds


def _rectified(batch: Batch, theta: tf.Tensor, plan: TrainingPlan, stream: DistortionStream) -> tf.Tensor:
    size, fill = plan.rectified_size or stream.original_size, plan.recipe.fill_fraction
    if plan.jitter is None:
        return warp_batch(batch.images, theta, fill, size)
    return warp_batch_through(batch.images, (theta, batch.jitter), fill, size)
