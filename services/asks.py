"""What a request asks for beside its files: the parameters of the routes for files, checked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.annotated import ANNOTATIONS, Read, read_annotations
from services.decisions import FLAGS, PARAMETERS
from services.forms import Item
from services.pipelines import MAX_SEED, read_recipe
from services.protocol import ModelSpec, TensorSpec
from services.routes import Parameter
from services.schemas import ref
from services.settings import Limits
from stn_core.errors import BadBody, BadTensor, TooLarge, brief
from stn_core.recipes import Recipe, shipped_recipes
from stn_core.wire import InferRequest, RequestedOutput

AUGMENT = "augment"
DEFAULT_SEED = 0
_FILE_FIELDS = ("image", "images", "file", "files")
_PICTURE_IS_THE_POINT = ("rectify", "straighten", AUGMENT)


@dataclass(frozen=True)
class Ask:
    """What is to be done with each file of a request."""

    spec: ModelSpec
    parameters: dict[str, Any]
    """Those of the model."""
    pictures: bool
    """Whether images are to come back."""
    copies: int = 1
    recipe: Recipe | None = None
    annotations: Sequence[Read] = ()
    """Those of each file, where there are any."""

    @property
    def outputs(self) -> tuple[RequestedOutput, ...] | None:
        """The outputs to ask the model for: all, but for images that nobody will see and that cost a warp.

        And but for those that are only made by choice: a parameter that asks for them brings them too.
        """
        if self.pictures or self.recipe is not None:
            return None
        left_out = self.spec.parameters.get("optional_outputs", ())
        names = [tensor.name for tensor in self.spec.outputs if not is_picture(tensor) and tensor.name not in left_out]
        return tuple(RequestedOutput(name, True) for name in names)

    @property
    def pixels_made(self) -> int:
        """The pixels of an image that comes out; 0 if they are as many as go in, or none."""
        if self.recipe is not None:
            canvas = self.recipe.canvas
            return 0 if canvas is None else canvas.height_px * canvas.width_px
        picture = picture_of(self.spec)
        return 0 if picture is None else max(picture.shape[1], 0) * max(picture.shape[2], 0)


def is_picture(tensor: TensorSpec) -> bool:
    return len(tensor.shape) == 4


def picture_of(spec: ModelSpec) -> TensorSpec | None:
    """The output that is the image a model makes; None if it makes none."""
    return next((tensor for tensor in spec.outputs if is_picture(tensor)), None)


def read_ask(spec: ModelSpec, given: Iterable[tuple[str, Any]], items: Sequence[Item], limits: Limits) -> Ask:
    """What the parameters ``given`` ask of the model for these files; errors of the StnError tree if it cannot be."""
    parameters = _known_once(spec, given)
    pictures = parameters.pop("images", spec.name in _PICTURE_IS_THE_POINT)
    if not isinstance(pictures, bool):
        raise BadBody(
            f"parameters.images: expected true or false, got {brief(pictures)}; with curl a file goes by its name "
            "after an @: -F image=@FILE"
        )
    if spec.name != AUGMENT:
        if any(item.annotations is not None for item in items):
            raise BadBody(f"annotations: expected none for {spec.name}; they move with what {AUGMENT} makes")
        return Ask(spec, parameters, pictures)
    annotations = read_annotations(parameters.pop(ANNOTATIONS, None), items)
    copies = parameters.pop("copies", 1)
    if not isinstance(copies, int) or isinstance(copies, bool) or not 1 <= copies <= limits.max_images:
        raise BadTensor(
            f"parameters.copies: expected a whole number from 1 to {limits.max_images}, got {brief(copies)}"
        )
    if len(items) * copies > limits.max_images:
        raise TooLarge(
            f"images: expected at most {limits.max_images} in one answer, got {len(items)} files with {copies} copies "
            "each; send several requests"
        )
    parameters.setdefault("seed", DEFAULT_SEED)
    recipe, _ = read_recipe(InferRequest({}, parameters=parameters))
    return Ask(spec, parameters, pictures, copies, recipe, annotations)


def parameters_of(spec: ModelSpec, limits: Limits) -> tuple[Parameter, ...]:
    """The parameters that the model's route knows, described."""
    wanted = spec.name in _PICTURE_IS_THE_POINT
    described = {
        "recipe": Parameter(
            "recipe",
            {"type": ["string", "object"], "examples": shipped_recipes()},
            "The name of a shipped recipe, or a recipe as JSON, also as a file",
        ),
        "seed": Parameter(
            "seed", {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": DEFAULT_SEED}, "Of the draws"
        ),
        "images": Parameter("images", {"type": "boolean", "default": wanted}, "Whether the answer holds images"),
        "copies": Parameter(
            "copies",
            {"type": "integer", "minimum": 1, "maximum": limits.max_images, "default": 1},
            "How many distorted images to make of each file",
        ),
        ANNOTATIONS: Parameter(
            ANNOTATIONS,
            {
                "oneOf": [
                    ref("Annotations"),
                    {"type": "array", "items": {"anyOf": [ref("Annotations"), {"type": "null"}]}},
                ]
            },
            "What moves with the images: one for each file, or null; one alone for a single file; also a JSON file",
        ),
        "canvas": Parameter(
            "canvas",
            {"enum": ["crop", "fit"], "default": "crop"},
            "What is shown: the network's window, or the whole image",
        ),
        **{
            name: Parameter(name, {"type": "boolean" if name in FLAGS else "number"}, said)
            for name, said in PARAMETERS.items()
        },
        **{
            name: Parameter(name, {"type": "integer", "minimum": 1, "maximum": limits.max_side_px}, said)
            for name, said in (
                ("height", "Of the image that comes out, px; with width"),
                ("width", "Of the image that comes out, px; with height"),
                ("max_side_px", "The longer side of the image that comes out, at most"),
            )
        },
    }
    return tuple(described.get(name, Parameter(name, {}, "As in the protocol")) for name in _known(spec))


def _known(spec: ModelSpec) -> list[str]:
    """What the protocol knows for this model, and what is ours."""
    ours = [*(("images",) if picture_of(spec) else ()), *(("copies", ANNOTATIONS) if spec.name == AUGMENT else ())]
    return [*spec.parameters.get("request_parameters", ()), *ours]


def _known_once(spec: ModelSpec, given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    known = _known(spec)
    parameters: dict[str, Any] = {}
    for name, value in given:
        if name not in known:
            expected = f"some of {', '.join(known)}" if known else "none"
            hint = "; with curl a file goes by its name after an @: -F image=@FILE" if name in _FILE_FIELDS else ""
            raise BadBody(f"parameters: expected {expected} for {spec.name}, got {brief(name)}{hint}")
        if name in parameters:
            raise BadBody(f"parameters.{name}: expected once, got it twice")
        parameters[name] = value
    return parameters
