"""The served models as v2 clients see them: names, tensors, limits."""

from dataclasses import dataclass
from typing import Any

import stn_core
from services.decisions import OUTPUTS as DECISION_OUTPUTS
from services.decisions import PARAMETERS as DECISION_PARAMETERS
from services.inputs import IMAGE_DATATYPES
from services.settings import Limits
from stn_core.bundle import Manifest
from stn_core.errors import UnknownModel, brief

SERVER_NAME = "stn-rectify"
STRAIGHTEN_PARAMETERS = ("canvas", "height", "width", "max_side_px")
PLATFORM = "stn"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a model; -1 in the shape is a side of any length."""

    name: str
    shape: tuple[int, ...]
    datatypes: tuple[str, ...]
    """The first is the usual one, which the metadata names."""
    classes: tuple[str, ...] = ()
    """What the numbers along the last axis stand for, if they are a score for each class."""

    def metadata(self) -> dict[str, Any]:
        document: dict[str, Any] = {"name": self.name, "datatype": self.datatypes[0], "shape": list(self.shape)}
        if len(self.datatypes) > 1:
            document["parameters"] = {"datatypes": list(self.datatypes)}
        return document


@dataclass(frozen=True)
class ModelSpec:
    """A served model: its tensors, and the stages it needs."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stages: tuple[str, ...]
    parameters: dict[str, Any]
    required_parameters: tuple[str, ...] = ()
    """What a request must say beside its inputs."""

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    def classes_of(self, output: str) -> tuple[str, ...]:
        """What the numbers of ``output`` are scores for; empty if it holds no scores."""
        return next((tensor.classes for tensor in self.outputs if tensor.name == output), ())

    def metadata(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": PLATFORM,
            "inputs": [tensor.metadata() for tensor in self.inputs],
            "outputs": [tensor.metadata() for tensor in self.outputs],
            "parameters": self.parameters,
        }

    def config(self, limits: Limits) -> dict[str, Any]:
        """The part of Triton's model configuration that tools read; there, shapes go without the batch dimension."""

        def entry(tensor: TensorSpec) -> dict[str, Any]:
            return {"name": tensor.name, "data_type": f"TYPE_{tensor.datatypes[0]}", "dims": list(tensor.shape[1:])}

        return {
            "name": self.name,
            "platform": PLATFORM,
            "max_batch_size": limits.max_images,
            "input": [entry(tensor) for tensor in self.inputs],
            "output": [entry(tensor) for tensor in self.outputs],
        }


def server_metadata(limits: Limits) -> dict[str, Any]:
    """The answer to ``GET /v2``, with the limits that a client splits its batches by."""
    return {
        "name": SERVER_NAME,
        "version": stn_core.__version__,
        "extensions": list(EXTENSIONS),
        "limits": limits.model_dump(),
    }


def model_specs(manifest: Manifest) -> dict[str, ModelSpec]:
    """All models that the bundle of this manifest serves, by name."""
    version, straight_shape = manifest.version, (-1, *manifest.rectified_shape)
    any_size, any_family = (-1, -1, -1, -1), (-1, -1, -1)
    label = TensorSpec("label", (-1,), ("INT64",))
    classes = tuple(manifest.classes)
    probabilities = TensorSpec("probabilities", (-1, len(classes)), ("FP32",), classes)
    theta = TensorSpec("theta", (-1, *manifest.theta_shape), ("FP32",))
    images = TensorSpec("images", (-1, *manifest.input_shape), IMAGE_DATATYPES)
    straight = TensorSpec("images", straight_shape, IMAGE_DATATYPES)
    any_images = TensorSpec("images", any_size, IMAGE_DATATYPES)
    rectified = TensorSpec("rectified", straight_shape, ("UINT8", "FP32"))
    warped = TensorSpec("images", any_size, ("UINT8", "FP32"))
    named = {"classes": list(classes)}
    decided = (
        TensorSpec("decision", (-1,), ("BYTES",)),
        TensorSpec("reason", (-1,), ("BYTES",)),
        TensorSpec("confidence", (-1,), ("FP32",)),
    )
    applied = TensorSpec("theta_applied", (-1, *manifest.theta_shape), ("FP32",))
    by_choice: dict[str, Any] = {"optional_outputs": list(DECISION_OUTPUTS)}
    specs = [
        ModelSpec(
            "predict",
            version,
            (images,),
            (label, probabilities, theta, rectified, *decided, applied),
            ("rectifier", "classifier"),
            {**named, **by_choice, "request_parameters": list(DECISION_PARAMETERS)},
        ),
        ModelSpec(
            "rectify",
            version,
            (images,),
            (rectified, theta, *decided, applied),
            ("rectifier",),
            {**by_choice, "request_parameters": list(DECISION_PARAMETERS)},
        ),
        ModelSpec(
            "straighten",
            version,
            (TensorSpec("images", any_size, ("BYTES", "UINT8", "FP32", "FP16", "BF16", "FP64")),),
            (
                TensorSpec("images", any_size, ("BYTES", "UINT8", "FP32")),
                TensorSpec("mask", (-1, -1, -1, 1), ("BYTES", "UINT8")),
                label,
                probabilities,
                TensorSpec("theta", (-1, *manifest.theta_shape), ("FP64",)),
                TensorSpec("rectified_size", (-1, 2), ("INT64",)),
                TensorSpec("source_size", (-1, 2), ("INT64",)),
                *decided,
            ),
            ("rectifier", "classifier"),
            {**named, **by_choice, "request_parameters": [*STRAIGHTEN_PARAMETERS, *DECISION_PARAMETERS]},
        ),
        ModelSpec("classify", version, (straight,), (label, probabilities), ("classifier",), named),
        ModelSpec(
            "warp",
            version,
            (any_images, TensorSpec("theta", any_family, ("FP32", "FP16", "BF16", "FP64"))),
            (warped,),
            ("rectifier",),
            {},
        ),
        ModelSpec(
            "augment",
            version,
            (any_images, TensorSpec("ids", (-1,), ("UINT64",))),
            (
                warped,
                TensorSpec("theta", any_family, ("FP64",)),
                TensorSpec("theta_rectifying", any_family, ("FP64",)),
                TensorSpec("exact", (-1,), ("BOOL",)),
            ),
            ("augmenter",),
            {"optional_inputs": ["ids"], "request_parameters": ["recipe", "seed"]},
            ("recipe", "seed"),
        ),
        ModelSpec(
            "map",
            version,
            (
                TensorSpec("points", (-1, -1, 2), ("FP64", "FP32", "FP16", "BF16")),
                TensorSpec("theta", any_family, ("FP64", "FP32", "FP16", "BF16")),
                TensorSpec("rectified_size", (-1, 2), ("INT64", "INT32")),
                TensorSpec("source_size", (-1, 2), ("INT64", "INT32")),
            ),
            (TensorSpec("points", (-1, -1, 2), ("FP64",)), TensorSpec("inside", (-1, -1), ("BOOL",))),
            (),
            {"request_parameters": ["direction"]},
        ),
    ]
    return {spec.name: spec for spec in specs}


def find_model(specs: dict[str, ModelSpec], name: str, version: str | None) -> ModelSpec:
    """The model of a request; UnknownModel if there is none of that name and version."""
    spec = specs.get(name)
    if spec is None:
        raise UnknownModel(f"expected one of the models {', '.join(specs)}, got {brief(name)}")
    if version is not None and version != spec.version:
        raise UnknownModel(f"model {name}: expected the version {spec.version}, got {brief(version)}")
    return spec
