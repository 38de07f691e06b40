"""The steps a recipe is made of. A range is ``[low, high]``, drawn uniformly for each image; a number is constant.

Lengths marked ``_fraction`` are shares of the image's side; angles are degrees, positive clockwise as seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

MAX_STEPS = 64
MAX_DEPTH = 8


def _as_range(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"expected [low, high] with low <= high, got {list(value)}")
    return value


def _range(low: float, high: float) -> Any:
    """The type of a range whose ends lie between ``low`` and ``high``."""
    end = Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]
    return Annotated[tuple[end, end], BeforeValidator(_as_range), Field(description=f"{low} to {high}")]


Probability = Annotated[float, Field(ge=0.0, le=1.0)]
ScaleRange: TypeAlias = _range(0.05, 20.0)  # type: ignore[valid-type]
AngleRange: TypeAlias = _range(-360.0, 360.0)  # type: ignore[valid-type]
ShearRange: TypeAlias = _range(-89.0, 89.0)  # type: ignore[valid-type]
ShiftRange: TypeAlias = _range(-2.0, 2.0)  # type: ignore[valid-type]
PixelShiftRange: TypeAlias = _range(-10_000.0, 10_000.0)  # type: ignore[valid-type]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Strict:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) == 2 and all(isinstance(end, float) for end in value):
                _ordered(value)
        return self


class Affine(Strict):
    """imgaug's ``Affine`` about the image's centre: rotate, then scale, then shear, then translate.

    imgaug shears by the hyperbolic tangent of the angle. ``shear_deg`` is one draw for both axes, which is what
    imgaug does with a plain ``shear=(low, high)``; ``shear_x_deg`` and ``shear_y_deg`` are added to it.
    """

    op: Literal["affine"] = "affine"
    scale: ScaleRange = (1.0, 1.0)
    scale_x: ScaleRange = (1.0, 1.0)
    scale_y: ScaleRange = (1.0, 1.0)
    rotate_deg: AngleRange = (0.0, 0.0)
    shear_deg: ShearRange = (0.0, 0.0)
    shear_x_deg: ShearRange = (0.0, 0.0)
    shear_y_deg: ShearRange = (0.0, 0.0)
    translate_x_fraction: ShiftRange = (0.0, 0.0)
    translate_y_fraction: ShiftRange = (0.0, 0.0)
    translate_x_px: PixelShiftRange = (0.0, 0.0)
    translate_y_px: PixelShiftRange = (0.0, 0.0)

    @model_validator(mode="after")
    def _shear_stays_below_a_quarter_turn(self) -> Affine:
        for axis in (self.shear_x_deg, self.shear_y_deg):
            if min(self.shear_deg[0] + axis[0], 0) < -89 or max(self.shear_deg[1] + axis[1], 0) > 89:
                raise ValueError("shear_deg and the shear of an axis may add up to at most 89 degrees either way")
        return self


class FlipHorizontal(Strict):
    """Left and right change places."""

    op: Literal["flip_horizontal"] = "flip_horizontal"


class FlipVertical(Strict):
    """Top and bottom change places."""

    op: Literal["flip_vertical"] = "flip_vertical"


class QuarterTurns(Strict):
    """Turned clockwise by 90 degrees times one of ``turns``; the image keeps its size."""

    op: Literal["quarter_turns"] = "quarter_turns"
    turns: Annotated[tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(min_length=1, max_length=4)] = (0, 1, 2, 3)


class GaussianBlur(Strict):
    op: Literal["gaussian_blur"] = "gaussian_blur"
    sigma_px: _range(0.0, 50.0) = (0.0, 1.0)  # type: ignore[valid-type]


class GaussianNoise(Strict):
    """Adds normal noise whose standard deviation is a fraction of the full range of values."""

    op: Literal["gaussian_noise"] = "gaussian_noise"
    sd_fraction: _range(0.0, 1.0) = (0.0, 0.1)  # type: ignore[valid-type]
    per_channel: bool = False


class SaltAndPepper(Strict):
    """Sets a fraction of the pixels to black or white."""

    op: Literal["salt_and_pepper"] = "salt_and_pepper"
    fraction: _range(0.0, 1.0) = (0.0, 0.05)  # type: ignore[valid-type]


class Dropout(Strict):
    """Sets a fraction of the pixels to 0."""

    op: Literal["dropout"] = "dropout"
    fraction: _range(0.0, 1.0) = (0.0, 0.1)  # type: ignore[valid-type]


class Contrast(Strict):
    """Multiplies the distance of each value from the middle of the range."""

    op: Literal["contrast"] = "contrast"
    factor: _range(0.0, 10.0) = (0.7, 1.3)  # type: ignore[valid-type]


class Brightness(Strict):
    """Multiplies each value."""

    op: Literal["brightness"] = "brightness"
    factor: _range(0.0, 10.0) = (0.8, 1.2)  # type: ignore[valid-type]


class Invert(Strict):
    """White becomes black, black becomes white."""

    op: Literal["invert"] = "invert"


class Elastic(Strict):
    """imgaug's smooth random displacement of each pixel. No theta describes it: it tells of the other steps alone."""

    op: Literal["elastic"] = "elastic"
    displacement_px: _range(0.0, 100.0) = (0.0, 2.0)  # type: ignore[valid-type]
    smoothness_px: _range(0.1, 100.0) = (3.0, 3.0)  # type: ignore[valid-type]


class Perspective(Strict):
    """A homography: each corner moves by a normal draw an axis, of ``sd_fraction`` of the side plus ``sd_px``.

    Drawn again where the corners would fold the image over.
    """

    op: Literal["perspective"] = "perspective"
    sd_fraction: _range(0.0, 0.3) = (0.0, 0.0)  # type: ignore[valid-type]
    sd_px: _range(0.0, 1000.0) = (0.0, 0.0)  # type: ignore[valid-type]


class ThinPlate(Strict):
    """A thin-plate spline: each of 4 x 4 control points reads from a place moved by a normal draw an axis.

    The draw's standard deviation is ``sd_fraction`` of the side plus ``sd_px``. The last geometric step of a recipe.
    """

    op: Literal["thin_plate"] = "thin_plate"
    sd_fraction: _range(0.0, 0.3) = (0.0, 0.0)  # type: ignore[valid-type]
    sd_px: _range(0.0, 1000.0) = (0.0, 0.0)  # type: ignore[valid-type]


class Clutter(Strict):
    """Pieces of other images' strokes: square patches of MNIST digits at random places, over a dark background."""

    op: Literal["clutter"] = "clutter"
    patches: Annotated[int, Field(ge=1, le=64)] = 6
    patch_px: Annotated[int, Field(ge=1, le=28)] = 6


class OneOf(Strict):
    """Exactly one of ``steps``, each as likely as the others."""

    op: Literal["one_of"] = "one_of"
    steps: Steps


class SomeOf(Strict):
    """A random number of different ``steps``, from ``at_least`` to ``at_most``, in the order given."""

    op: Literal["some_of"] = "some_of"
    at_least: Annotated[int, Field(ge=0)] = 0
    at_most: Annotated[int, Field(ge=0)] | None = None
    steps: Steps

    @field_validator("at_most")
    @classmethod
    def _not_below_at_least(cls, value: int | None, info: Any) -> int | None:
        if value is not None and value < info.data.get("at_least", 0):
            raise ValueError(f"expected at_most >= at_least, got {value} < {info.data['at_least']}")
        return value


class Sometimes(Strict):
    """All of ``steps`` with the given probability, else none."""

    op: Literal["sometimes"] = "sometimes"
    probability: Probability = 0.5
    steps: Steps


class Sequence(Strict):
    """All of ``steps``, one after another; groups steps inside ``one_of`` and ``some_of``."""

    op: Literal["sequence"] = "sequence"
    steps: Steps


Group = OneOf | SomeOf | Sometimes | Sequence
AffineLeaf = Affine | FlipHorizontal | FlipVertical | QuarterTurns
GeometricLeaf = AffineLeaf | Perspective | ThinPlate
PixelLeaf = GaussianBlur | GaussianNoise | SaltAndPepper | Dropout | Contrast | Brightness | Invert | Clutter
Leaf = GeometricLeaf | Elastic | PixelLeaf
Step = Annotated[Group | Leaf, Field(discriminator="op")]
Steps = Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_STEPS)]

for _group in (OneOf, SomeOf, Sometimes, Sequence):
    _group.model_rebuild()


class Canvas(Strict):
    """A larger frame: the image goes into its middle, the fill around it."""

    height_px: Annotated[int, Field(ge=1, le=4096)]
    width_px: Annotated[int, Field(ge=1, le=4096)]


class Recipe(Strict):
    """A named list of steps, applied in order. ``fill_fraction`` (0 black, 1 white) is what lies outside the image.

    ``canvas``, if given, is the size of the distorted images: each image is put into its middle before the steps.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    description: Annotated[str, Field(max_length=2000)] = ""
    fill_fraction: Probability = 0.0
    canvas: Canvas | None = None
    steps: Steps

    @model_validator(mode="after")
    def _is_bounded(self) -> Recipe:
        count, depth = _measure(self.steps)
        if count > MAX_STEPS or depth > MAX_DEPTH:
            raise ValueError(
                f"expected at most {MAX_STEPS} steps in all, nested at most {MAX_DEPTH} deep; got {count}, {depth} deep"
            )
        return self

    @model_validator(mode="after")
    def _has_one_theta(self) -> Recipe:
        geometric = [leaf for leaf in leaves(self.steps) if isinstance(leaf, GeometricLeaf)]
        splines = [leaf for leaf in geometric if isinstance(leaf, ThinPlate)]
        if splines and (len(splines) > 1 or geometric[-1] is not splines[0]):
            raise ValueError("thin_plate: expected once, after all other geometric steps; no theta tells of the result")
        if splines and any(isinstance(leaf, Perspective) for leaf in geometric):
            raise ValueError("thin_plate: expected without perspective; no theta tells of the two together")
        return self


def leaves(steps: tuple[Step, ...]) -> Iterator[Leaf]:
    """The steps that are no groups, in order."""
    for step in steps:
        if isinstance(step, Group):
            yield from leaves(step.steps)
        else:
            yield step


def _measure(steps: tuple[Step, ...]) -> tuple[int, int]:
    count, depth = 0, 1
    for step in steps:
        count += 1
        if isinstance(step, Group):
            inner_count, inner_depth = _measure(step.steps)
            count, depth = count + inner_count, max(depth, inner_depth + 1)
    return count, depth
