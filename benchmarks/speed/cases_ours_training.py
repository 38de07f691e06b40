"""Our side of the training steps: the project's joint training, and the making of batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from threading import Semaphore, Thread
from typing import Any

from contestant import Case
from inputs import SEED
from shapes import TRAINING_BATCHES
from training_batches import SHAPE, prepared_batches

from stn_core.classifiers import build_classifier
from stn_core.datasets import sample_digits
from stn_core.geometry import Size
from stn_core.localization import build_localization
from stn_core.recipes import load_recipe
from stn_core.stream import Batch, DistortionStream
from stn_core.training.fitting import Journal
from stn_core.training.phases import train_together
from stn_core.training.plan import TrainingPlan

RATE = 1e-4  # slow, so that none of the trainings goes astray in a long contest
NO_END = 10_000_000


class OneByOne:
    """A stream of prepared batches for a training in a thread of its own, which does a step when ``step`` is called."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.original_size: Size = SHAPE[:2]
        self._prepared = batches
        self._asked, self._done = Semaphore(0), Semaphore(0)

    def batches(self, skip: int = 0) -> Iterator[Batch]:
        """What the training goes through: it comes for the next batch once it is done with one."""
        for batch in self._prepared:
            self._asked.acquire()
            yield batch
            self._done.release()

    def step(self, training: Thread) -> None:
        """One step, from its batch to its end. RuntimeError if the training has ended."""
        self._asked.release()
        while not self._done.acquire(timeout=1):
            if not training.is_alive():
                raise RuntimeError("the training has ended; why, it wrote to the standard error")


def ours(batch_size: int) -> Case:
    plan = TrainingPlan(
        recipe=load_recipe("tutorial-mix"),
        localization="tutorial",
        batch_size=batch_size,
        localization_steps=0,
        classifier_steps=0,
        joint_steps=NO_END,
        joint_rate=RATE,
        joint_localization_factor=1.0,
        corner_weight=0.0,
    )
    stream: Any = OneByOne(cycle(prepared_batches(batch_size)))
    localization, classifier = build_localization("tutorial", SHAPE), build_classifier("cnn", SHAPE)
    journal = Journal(progress=lambda *_: None)
    training = Thread(target=train_together, args=(classifier, localization, stream, plan, journal), daemon=True)
    training.start()
    return lambda: stream.step(training), batch_size


def distortion(batch_size: int) -> Case:
    digits = sample_digits()
    stream = DistortionStream(digits.images, digits.labels, load_recipe("tutorial-mix"), batch_size, 0.0, SEED)
    return partial(next, stream.batches()), batch_size


CASES = {f"{case.__name__} {size}": partial(case, size) for case in (ours, distortion) for size in TRAINING_BATCHES}
