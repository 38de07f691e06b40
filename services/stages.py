"""The pipeline's stages: plain classes that run one operation on one batch, in the thread that calls them.

A stage knows nothing of HTTP, Ray or batching. Its operations take and give arrays by name ("columns"); arrays may be
read-only, as those that come out of Ray or off the network are.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from services.batching import Columns
from stn_core.errors import StnError
from stn_core.geometry import identity
from stn_core.points import to_rectified, to_source
from stn_core.recipes import Recipe

if TYPE_CHECKING:
    from stn_core.backends import BackendName
    from stn_core.engine import Engine

NETWORK_OF_STAGE = {"rectifier": "localization", "classifier": "classifier"}


class BundleId(NamedTuple):
    """Which bundle: where it lies, and the sha256 of its manifest, which has those of all its files."""

    source: str
    sha256: str


class Operation(NamedTuple):
    """What a stage is to do: hashable and small, so that it can key a batch and travel in a call."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()
    result_bytes: int = 0
    """The bytes of one image that comes out, by which a batch is measured where they are more than those that go in."""
    bundle: BundleId | None = None
    """Whose networks are to do it, where the stage lies in another process than the caller, which may hold several."""


CLASSIFY = Operation("classify")


class Stage(Protocol):
    """What a stage offers to whatever hosts it."""

    def warm_up(self) -> None:
        """Pays for the first call of every operation."""

    def run(self, operation: Operation, columns: Columns) -> Columns:
        """The result of ``operation``; every array of it has the batch's leading dimension."""


class RectifyStage:
    """Operations ``localize`` (images -> theta), ``rectify`` (images -> rectified, theta), ``warp`` (images, theta).

    And ``decide`` (images -> rectified or kept ones as rectified, theta, theta_applied, reason, confidence if there is
    one), and ``resize`` (images -> images), to the size that rectified images have.
    """

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._operations: dict[str, Callable[..., Columns]] = {
            "localize": self._localize,
            "rectify": self._rectify,
            "decide": self._decide,
            "warp": self._warp,
            "resize": self._resize,
        }

    def warm_up(self) -> None:
        self.engine.warm_up()

    def run(self, operation: Operation, columns: Columns) -> Columns:
        return _pick(self._operations, operation)(columns, **dict(operation.arguments))

    def _localize(self, columns: Columns) -> Columns:
        return {"theta": np.asarray(self.engine.localize(columns["images"]))}

    def _rectify(self, columns: Columns) -> Columns:
        rectified, theta = self.engine.rectify(columns["images"])
        return {"rectified": np.asarray(rectified), "theta": np.asarray(theta)}

    def _decide(self, columns: Columns, limits: str) -> Columns:
        """``limits`` is JSON of those that are not the bundle's own."""
        made = self.engine.decide(columns["images"], self.engine.limits.changed(json.loads(limits)))
        outputs = {"rectified": made.images, "theta": made.theta, "theta_applied": made.theta_applied}
        outputs["reason"] = made.decisions.reason
        if made.decisions.confidence is not None:
            outputs["confidence"] = made.decisions.confidence
        return {name: np.asarray(array) for name, array in outputs.items()}

    def _warp(self, columns: Columns) -> Columns:
        return {"images": np.asarray(self.engine.warp(columns["images"], columns["theta"]))}

    def _resize(self, columns: Columns) -> Columns:
        """Images at the rectified size, and not straightened."""
        images = columns["images"]
        return {
            "images": np.asarray(self.engine.warp(images, identity(len(images)), self.engine.manifest.rectified_size))
        }


class ClassifyStage:
    """Operation ``classify``: images -> label, probabilities."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    def warm_up(self) -> None:
        self.engine.warm_up()

    def run(self, operation: Operation, columns: Columns) -> Columns:
        return _pick({"classify": self._classify}, operation)(columns)

    def _classify(self, columns: Columns) -> Columns:
        label, probabilities = self.engine.classify(columns["images"])
        return {"label": np.asarray(label), "probabilities": np.asarray(probabilities)}


class PredictStage:
    """The rectifier and behind it the classifier, where both lie in one process: one call instead of two."""

    def __init__(self, rectifier: Stage, classifier: Stage) -> None:
        self._rectifier, self._classifier = rectifier, classifier
        self._engine = _common_engine(rectifier, classifier)

    def warm_up(self) -> None:
        self._rectifier.warm_up()
        self._classifier.warm_up()

    def run(self, operation: Operation, columns: Columns) -> Columns:
        if operation.name == "rectify" and self._engine is not None:
            return {
                name: np.asarray(array) for name, array in self._engine.predict(columns["images"])._asdict().items()
            }
        rectified = self._rectifier.run(operation, columns)
        return {**self._classifier.run(CLASSIFY, {"images": rectified["rectified"]}), **rectified}


def _common_engine(rectifier: Stage, classifier: Stage) -> "Engine | None":
    """The engine of both; None if they have not one and the same."""
    if type(rectifier) is RectifyStage and type(classifier) is ClassifyStage and rectifier.engine is classifier.engine:
        return rectifier.engine
    return None


class MapStage:
    """Operation ``to_source`` or ``to_rectified``: points, theta, rectified_size, source_size -> points, inside."""

    def warm_up(self) -> None:
        pass

    def run(self, operation: Operation, columns: Columns) -> Columns:
        ways = {"to_source": to_source, "to_rectified": to_rectified}
        found = ways[operation.name](*(columns[name] for name in ("points", "theta", "rectified_size", "source_size")))
        return {"points": found.points_px, "inside": found.inside}


class AugmentStage:
    """Operation ``augment`` (recipe as JSON, seed): images, ids -> images, theta, exact (and theta_rectifying)."""

    def __init__(self, input_shape: tuple[int, int, int], first_recipe: Recipe) -> None:
        self._input_shape = input_shape
        self._first_recipe = first_recipe

    def warm_up(self) -> None:
        columns: Columns = {"images": np.zeros((1, *self._input_shape), np.uint8), "ids": np.zeros(1, np.uint64)}
        self.run(augment_operation(self._first_recipe.model_dump_json(), 0), columns)

    def run(self, operation: Operation, columns: Columns) -> Columns:
        return _pick({"augment": lambda given: self._augment(given, **dict(operation.arguments))}, operation)(columns)

    def _augment(self, columns: Columns, recipe: str, seed: int) -> Columns:
        from stn_core.augment import augment

        result = augment(columns["images"], Recipe.model_validate(json.loads(recipe)), seed, ids=columns["ids"])
        made = {"images": result.images, "theta": result.theta, "exact": result.exact}
        if result.theta_rectifying is not None:
            made["theta_rectifying"] = result.theta_rectifying
        return {name: np.asarray(array) for name, array in made.items()}


def augment_operation(recipe_json: str, seed: int, result_bytes: int = 0) -> Operation:
    """The operation that applies one recipe with one seed; equal ones share batches."""
    return Operation("augment", (("recipe", recipe_json), ("seed", seed)), result_bytes)


def make_stages(
    names: tuple[str, ...], bundle: str, engine_name: "BackendName", threads: int | None
) -> dict[str, Stage]:
    """The named stages of one process, warm; those that need networks share one engine."""
    from stn_core.bundle import read_manifest

    networks = tuple(NETWORK_OF_STAGE[name] for name in names if name in NETWORK_OF_STAGE)
    stages: dict[str, Stage] = {}
    if networks:
        from stn_core.engine import Engine

        engine = Engine.load(bundle, networks, threads, engine_name)
        made: dict[str, Callable[[], Stage]] = {
            "rectifier": lambda: RectifyStage(engine),
            "classifier": lambda: ClassifyStage(engine),
        }
        stages = {name: made[name]() for name in names if name in made}
    if "augmenter" in names:
        manifest = read_manifest(bundle)
        stages["augmenter"] = AugmentStage(manifest.input_shape, manifest.recipe)
    for stage in stages.values():
        stage.warm_up()
    return stages


def _pick(operations: dict[str, Callable[..., Columns]], operation: Operation) -> Callable[..., Columns]:
    found = operations.get(operation.name)
    if found is None:
        raise StnError(f"the stage has no operation {operation.name!r}; it has {', '.join(operations)}")
    return found
