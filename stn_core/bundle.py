"""A model on disk: a folder with a manifest, the networks and the metrics, each file checked by its sha256.

manifest.json        what the model is, and the sha256 of every other file
localization.keras   images -> theta
classifier.keras     images -> logits
*.onnx               the same networks for ONNX Runtime; left out where a layer has no equal there
metrics.json         what was measured when it was trained
decision.json        its confidence and its limits (``stn_core.confidence``); bundles of before have none
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stn_core.confidence import DECISION_FILE, Calibration, parse_calibration
from stn_core.errors import BadBundle, brief, shortened
from stn_core.geometry import Size
from stn_core.keras_weights import check_weights
from stn_core.recipes import Recipe
from stn_core.transforms import THETA_SHAPES, FamilyName

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
MANIFEST = "manifest.json"
METRICS = "metrics.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_NETWORK_BYTES = 1 << 30
"""Of a file, and of what it unpacks to."""
MAX_CONFIG_BYTES = 1 << 26
NETWORKS = ("localization", "classifier")
Convention = Literal["theta maps output to input; half-pixel normalized coordinates; x, y"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$")]
Side = Annotated[int, Field(ge=1, le=4096)]


class Manifest(BaseModel):
    """What a bundle says of itself.

    ``input_shape`` is that of the images that come; ``rectified_size`` (height, width) that of the straightened ones,
    which the classifier sees, where it differs. ``transform`` is the family of theta. With ``passes`` above 1, the
    localization network looks again at what it straightened, and the transforms are composed. ``classifier_gives`` is
    what the classifier's last layer answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")] = "1"
    created: str
    input_shape: tuple[Side, Side, Annotated[int, Field(ge=1, le=16)]]
    rectified_size: tuple[Side, Side] | None = None
    transform: FamilyName = "affine"
    passes: Annotated[int, Field(ge=1, le=8)] = 1
    classifier_gives: Literal["logits", "probabilities"] = "logits"
    classes: Annotated[list[str], Field(min_length=2, max_length=100_000)]
    convention: Convention = get_args(Convention)[0]
    fill_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    recipe: Recipe
    training: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _passes_compose(self) -> Manifest:
        if self.passes > 1 and (self.transform == "tps" or self.rectified_size not in (None, self.input_shape[:2])):
            raise ValueError("passes: more than one needs a transform that composes, and images that keep their size")
        return self

    @property
    def rectified_shape(self) -> tuple[int, int, int]:
        """The shape of one straightened image, (height, width, channels)."""
        return (*(self.rectified_size or self.input_shape[:2]), self.input_shape[2])

    @property
    def original_size(self) -> Size:
        """The size of images before the recipe's canvas went around them, as far as the manifest tells."""
        came, straight = self.input_shape[:2], self.rectified_shape[:2]
        if self.recipe.canvas is None:
            return came
        return min(came[0], straight[0]), min(came[1], straight[1])

    @property
    def theta_shape(self) -> tuple[int, int]:
        """The shape of one theta."""
        return THETA_SHAPES[self.transform]


def find_bundle(source: str | Path) -> Path:
    """The folder of a bundle: a path, or the name of a bundle that comes with the package; BadBundle if neither."""
    path = Path(source)
    if (path / MANIFEST).is_file():
        return path
    shipped = Path(str(resources.files("stn_core") / "bundles"))
    if path.name == str(source) and (shipped / path.name / MANIFEST).is_file():
        return shipped / path.name
    names = sorted(entry.parent.name for entry in shipped.glob(f"*/{MANIFEST}"))
    raise BadBundle(
        f"bundle {str(source)!r}: expected a folder with a {MANIFEST}, or the name of a shipped bundle "
        f"({', '.join(names) or 'none'}); looked in {path.resolve()} and {shipped}"
    )


def read_manifest(source: str | Path) -> Manifest:
    """The manifest of a bundle, with every file it names checked; BadBundle says what is wrong. No TensorFlow."""
    folder = find_bundle(source)
    manifest = _parse_manifest(folder / MANIFEST)
    expected = {MANIFEST, *manifest.files}
    missing = [name for name in (*(f"{network}.keras" for network in NETWORKS), METRICS) if name not in manifest.files]
    if missing:
        raise BadBundle(f"bundle {folder}: the manifest names no {missing[0]}")
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise BadBundle(f"bundle {folder}: {name} is missing; the bundle is incomplete")
        if path.stat().st_size > MAX_NETWORK_BYTES:
            raise BadBundle(f"bundle {folder}: {name} is larger than {MAX_NETWORK_BYTES} bytes")
        if sha256_of(path) != digest:
            raise BadBundle(f"bundle {folder}: {name} is not the file the manifest describes (its sha256 differs)")
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in expected)
    if foreign:
        raise BadBundle(f"bundle {folder}: {foreign[0]} is not in the manifest; a bundle holds nothing else")
    return manifest


def manifest_sha256(source: str | Path) -> str:
    """The sha256 of a bundle's manifest, which has those of all its files: equal ones are equal bundles."""
    return sha256_of(find_bundle(source) / MANIFEST)


def load_network(source: str | Path, network: str) -> Any:
    """One of a checked bundle's networks, as a ``tf_keras.Model``; call ``read_manifest`` first."""
    return load_keras(find_bundle(source) / f"{network}.keras")


def load_keras(path: Path) -> Any:
    """A ``.keras`` file saved by tf_keras; BadBundle if it is none, or names code that is not Keras' own or ours."""
    _refuse_foreign_code(path)
    check_weights(path)
    import tf_keras

    import stn_core.layers
    import stn_core.view  # noqa: F401  both register their layers with Keras

    try:
        return tf_keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BadBundle(f"{path} does not load: {str(error).splitlines()[0]}; was it saved by tf_keras?") from None


def read_calibration(folder: Path, manifest: Manifest) -> Calibration | None:
    """The calibration of a checked bundle; None where it has none. BadBundle if it does not parse."""
    return parse_calibration(folder / DECISION_FILE) if DECISION_FILE in manifest.files else None


def write_bundle(
    folder: Path,
    networks: Mapping[str, Any],
    measured: Mapping[str, Any],
    calibration: Calibration | None = None,
    **manifest: Any,
) -> Manifest:
    """Writes a bundle of ``networks`` (``localization`` and ``classifier``) and gives its manifest.

    Networks are written as ONNX too, where each of their layers can be (``stn_core.export``).

    ``measured`` is what ``metrics.json`` holds in full; ``manifest`` the fields of ``Manifest`` but for the
    checksums. An existing folder must be a bundle or empty.
    """
    check_folder(folder)
    with _replacing(folder) as new:
        return _write_files(new, networks, measured, calibration, manifest)


def write_calibration(folder: Path, calibration: Calibration) -> Manifest:
    """Adds ``calibration`` to the bundle ``folder``, or puts it in the place of the one there; all else stays."""
    read_manifest(folder)
    with _replacing(folder) as new:
        shutil.copytree(folder, new)
        _write_calibration(new, calibration)
        data = json.loads((new / MANIFEST).read_bytes())
        data["files"] = dict(sorted({**data["files"], DECISION_FILE: sha256_of(new / DECISION_FILE)}.items()))
        (new / MANIFEST).write_text(json.dumps(data, indent=2) + "\n")
    return read_manifest(folder)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to write, which then takes the place of ``folder``: a write cut short leaves the old one whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def check_folder(folder: Path) -> None:
    """BadBundle if a bundle cannot be written to ``folder``: it must be new, empty, or a bundle."""
    if folder.exists() and not folder.is_dir():
        raise BadBundle(f"bundle {folder}: expected a folder, got a file; choose another name")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise BadBundle(f"bundle {folder}: the folder holds something that is not a bundle; choose another one")


def check_fields(fields: Mapping[str, Any]) -> Manifest:
    """The manifest that ``fields`` would make, still without files; BadBundle if one of them is wrong."""
    return _validated({**fields, "files": {}}, "bundle")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_files(
    folder: Path,
    networks: Mapping[str, Any],
    measured: Mapping[str, Any],
    calibration: Calibration | None,
    fields: Mapping[str, Any],
) -> Manifest:
    from stn_core.compact import save_keras

    folder.mkdir()
    unchecked = Manifest(files={}, **fields)
    for name in NETWORKS:
        save_keras(networks[name], folder / f"{name}.keras")
        shape = unchecked.input_shape if name == "localization" else unchecked.rectified_shape
        _write_onnx(networks[name], shape, folder / f"{name}.onnx")
    (folder / METRICS).write_text(json.dumps(measured, indent=2) + "\n")
    if calibration is not None:
        _write_calibration(folder, calibration)
    names = sorted(file.name for file in folder.iterdir())
    written = unchecked.model_copy(update={"files": {name: sha256_of(folder / name) for name in names}})
    data = written.model_dump(mode="json")
    data["recipe"] = written.recipe.model_dump(mode="json", exclude_unset=True)
    (folder / MANIFEST).write_text(json.dumps(data, indent=2) + "\n")
    return written


def _write_calibration(folder: Path, calibration: Calibration) -> None:
    (folder / DECISION_FILE).write_text(json.dumps(calibration.model_dump(mode="json"), indent=2) + "\n")


def _write_onnx(network: Any, shape: tuple[int, int, int], path: Path) -> None:
    from stn_core.export import ExportFailed, to_onnx

    try:
        path.write_bytes(to_onnx(network, shape))
    except ExportFailed as error:
        logger.warning("%s; the bundle is served by TensorFlow (engine: tensorflow)", error)


def _parse_manifest(path: Path) -> Manifest:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BadBundle(f"bundle {path}: expected at most {MAX_MANIFEST_BYTES} bytes, got {path.stat().st_size}")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"bundle {path}: expected JSON, got something that does not parse: {error}") from None
    if isinstance(data, dict) and data.get("format_version") != FORMAT_VERSION:
        raise BadBundle(
            f"bundle {path}: expected format_version {FORMAT_VERSION}, got {data.get('format_version')!r}; "
            "train it again with this version of the package"
        )
    return _validated(data, f"bundle {path}")


def _validated(data: object, source: str) -> Manifest:
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadBundle(f"{source}: {'.'.join(map(str, first['loc'])) or 'manifest'}: {first['msg']}") from None


_TRUSTED_MODULES = ("keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints")
_TRUSTED_CLASSES = {
    ("tf_keras.src.engine.functional", "Functional"),
    ("keras", "Functional"),
    ("keras", "Sequential"),
    ("keras.mixed_precision", "Policy"),
    (None, "__tuple__"),
    (None, "__ellipsis__"),
}
# Layers of Keras that hold code or operations of any kind.
_REFUSED_LAYERS = {"Lambda", "TFSMLayer", "TensorFlowOpLayer", "TFOpLambda", "SlicingOpLambda"} | {
    "ClassMethod",
    "InstanceMethod",
    "InstanceProperty",
}
_OUR_LAYERS = (("stn_core.layers", "SpatialTransformer"), ("stn_core.view", "Disc"))


def _refuse_foreign_code(path: Path) -> None:
    """Keras imports whatever module a saved config names: so only its layers, and ours, may be named."""
    for node in _nodes(_config_in(path)):
        if not _is_trusted(node.get("module"), node["class_name"], node.get("registered_name")):
            raise BadBundle(
                f"{path} names {brief(node.get('module'))}.{brief(node['class_name'])}, and only Keras' layers without "
                f"code of their own, and {' and '.join(name for _, name in _OUR_LAYERS)}, are loaded"
            )


def _config_in(path: Path) -> Any:
    """The description of the network in a ``.keras`` file, which unpacks to no more than it may."""
    try:
        with zipfile.ZipFile(path) as archive:  # reads no more of a member than the sizes here say
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_NETWORK_BYTES or archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
                raise BadBundle(
                    f"{path}: expected at most {MAX_NETWORK_BYTES} bytes unpacked, {MAX_CONFIG_BYTES} of them "
                    f"config.json, got {unpacked}"
                )
            return json.loads(archive.read("config.json"))
    except BadBundle:
        raise
    except Exception as error:  # zipfile raises many kinds for broken files
        raise BadBundle(
            f"{path}: expected a .keras file saved by tf_keras, got something else: {shortened(str(error))}"
        ) from None


def _is_trusted(module: object, name: object, registered: object) -> bool:
    if not isinstance(name, str):
        return False
    # Keras looks a registered name up before it imports the module: the two must say the same.
    if (module, name) in _OUR_LAYERS:
        return registered == f"stn_core>{name}"
    if registered not in (None, name) or name in _REFUSED_LAYERS:
        return False
    return module in _TRUSTED_MODULES or (module, name) in _TRUSTED_CLASSES


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
