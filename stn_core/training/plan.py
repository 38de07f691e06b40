"""The training plan: networks, distortions, steps, rates and the seed, checked before anything starts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from stn_core.classifiers import CLASSIFIER_KINDS
from stn_core.localization import LOCALIZATION_KINDS
from stn_core.recipes import Recipe, is_geometric
from stn_core.transforms import FamilyName
from stn_core.view import View

Steps = Annotated[int, Field(ge=0, le=10_000_000)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=8, le=4096)]

OWN_CLASSIFIER = "own"
"""The classifier is given, trained already, and stays as it is."""


class TrainingPlan(BaseModel):
    """How to train, in phases: the localization network, the classifier behind it, both together.

    ``view`` is what the localization network sees of an image. With ``teacher_steps``, a large classifier is trained
    before the plan's own and teaches it its judgement of each image (distillation, arXiv 1503.02531). A phase of 0
    steps is left out. Rates are Adam's first ones, which decay to 0 along a cosine; in the joint phase the localization
    network learns at ``joint_localization_factor`` of the classifier's. ``corner_weight`` is the weight of the corner
    error, in halves of the image's side, beside the cross-entropy in the joint phase. ``rendered_share`` of the images
    is rendered in other ways than by one bilinear warp (``stn_core.rendering``), whose traces are looked for otherwise.
    ``start_from`` is a bundle (a path, or a shipped one's name) whose weights the networks begin with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Recipe
    jitter: Recipe | None = None
    localization: str = "fast"
    classifier: str = "cnn"
    transform: FamilyName = "affine"
    view: View = "whole"
    passes: int = Field(default=1, ge=1, le=8)
    rectified_size: tuple[Side, Side] | None = None
    seed: int = Field(default=1, ge=0, lt=1 << 31)
    batch_size: int = Field(default=256, ge=2, le=65_536)
    localization_steps: Steps = 10_000
    teacher_steps: Steps = 0
    classifier_steps: Steps = 12_000
    joint_steps: Steps = 0
    localization_rate: Rate = 2e-3
    classifier_rate: Rate = 2e-3
    joint_rate: Rate = 5e-4
    joint_localization_factor: float = Field(default=0.1, ge=0, le=1)
    corner_weight: float = Field(default=0.5, ge=0, le=100)
    localization_original_share: float = Field(default=0.15, ge=0, le=0.9)
    classifier_original_share: float = Field(default=0.4, ge=0, le=0.9)
    rendered_share: float = Field(default=0.5, ge=0, le=1)
    start_from: str | None = None

    @field_validator("jitter")
    @classmethod
    def _is_one_warp(cls, value: Recipe | None) -> Recipe | None:
        if value is not None and (not is_geometric(value) or value.canvas is not None):
            raise ValueError(f"expected a recipe of geometric steps alone, without a canvas, got {value.name!r}")
        return value

    @field_validator("localization", "classifier")
    @classmethod
    def _known_kind(cls, value: str, info: ValidationInfo) -> str:
        kinds = LOCALIZATION_KINDS if info.field_name == "localization" else (*CLASSIFIER_KINDS, OWN_CLASSIFIER)
        if value not in kinds:
            raise ValueError(f"expected one of {', '.join(kinds)}, got {value!r}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingPlan:
        if self.classifier == OWN_CLASSIFIER and (self.classifier_steps or self.joint_steps or self.teacher_steps):
            raise ValueError(
                "classifier: one that is given stays as it is: the steps of all phases but the first must be 0"
            )
        if self.passes > 1 and (self.transform == "tps" or self.rectified_size or self.recipe.canvas):
            raise ValueError("passes: more than one needs a transform that composes, and images that keep their size")
        return self
