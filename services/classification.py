"""Triton's classification extension: the best classes by name, in place of a score for each class."""

import numpy as np

from services.batching import Array, Columns
from services.protocol import ModelSpec
from stn_core.errors import BadTensor, TooLarge
from stn_core.wire import InferRequest, RequestedOutput

MAX_TEXTS = 2**20
"""The texts of one answer; each is an object of some 70 bytes."""


def check_classification(spec: ModelSpec, output: RequestedOutput) -> None:
    """BadTensor if the best classes are asked for of an output that holds no score for each class."""
    if not spec.classes_of(output.name):
        scores = ", ".join(name for name in spec.output_names if spec.classes_of(name))
        instead = f"ask for those of {scores}" if scores else f"model {spec.name} has no such output"
        raise BadTensor(f"outputs: {output.name} has no best classes, as it holds no score for each class; {instead}")


def classified(outputs: Columns, spec: ModelSpec, request: InferRequest) -> Columns:
    """``outputs`` of a model; where ``request`` asks for the best classes of one, these in its place."""
    asked = [output for output in request.outputs or () if output.classes]
    if not asked:
        return outputs
    best = {one.name: best_classes(outputs[one.name], spec.classes_of(one.name), one.classes) for one in asked}
    return {**outputs, **best}


def best_classes(scores: Array, classes: tuple[str, ...], count: int) -> Array:
    """The texts ``score:index:name`` of the ``count`` best classes (all, if there are fewer), best first.

    BYTES ``[N, k]`` for ``scores [N, K]``; of equal scores the first class comes first. TooLarge above ``MAX_TEXTS``.
    """
    images, count = len(scores), min(count, len(classes))
    if images * count > MAX_TEXTS:
        raise TooLarge(
            f"classification: expected at most {MAX_TEXTS} texts in one answer, got {images} images times {count} "
            "classes; ask for fewer classes, or for the scores as they are"
        )
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(scores, best, axis=1)
    texts = np.empty((images, count), object)
    texts.reshape(-1)[:] = [
        f"{value:.6f}:{index}:{classes[index]}".encode()
        for value, index in zip(values.reshape(-1).tolist(), best.reshape(-1).tolist(), strict=True)
    ]
    return texts
