"""``stn train``: from data and a recipe to a bundle that serves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.options import Channels, Data, DataPath, ImageSize, RecipeOption, Seed, parse_size
from stn_core.errors import InvalidInput, brief

if TYPE_CHECKING:
    from stn_core.datasets import Splits
    from stn_core.training import OwnClassifier, TrainingPlan

TELLING_BORDER = 0.5
PAPER_MIN_SIDE_PX = 24
"""Below it the two convolutions and poolings of the classifier ``paper`` leave nothing."""


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="The folder of the bundle to write.")],
    data: Data = "mnist",
    data_path: DataPath = None,
    size: ImageSize = None,
    channels: Channels = None,
    recipe: RecipeOption = "tutorial-mix",
    jitter: Annotated[
        str, typer.Option(help="A recipe that moves rectified images about while the classifier learns, or none.")
    ] = "jitter",
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: its folder's.")] = None,
    version: Annotated[int, typer.Option(min=1, help="The bundle's version, which answers of the service name.")] = 1,
    localization: Annotated[str, typer.Option(help="tutorial, dense, deep, fast, medium or small.")] = "fast",
    transform: Annotated[
        str, typer.Option(help="The family of theta: affine, similarity, attention, homography or tps.")
    ] = "affine",
    view: Annotated[
        str, typer.Option(help="What the localization network sees: whole, or the disc in the middle of each image.")
    ] = "whole",
    passes: Annotated[int, typer.Option(help="How often the localization network looks, each time straighter.")] = 1,
    classifier: Annotated[
        str, typer.Option(help="cnn, fc or paper; or a .keras file: your own classifier, which stays as it is.")
    ] = "cnn",
    start_from: Annotated[
        str | None, typer.Option(help="A bundle of the same networks to go on from: a path, or a shipped one's name.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Batches for each of the two networks, where the next two options are not given.")
    ] = None,
    localization_steps: Annotated[
        int | None, typer.Option(help="Batches to teach the localization network with; default: 10000.")
    ] = None,
    teacher_steps: Annotated[
        int, typer.Option(help="Batches to train a large classifier with, which then teaches the bundle's.")
    ] = 0,
    classifier_steps: Annotated[
        int | None, typer.Option(help="Batches to train the classifier with; default: 12000, your own: none.")
    ] = None,
    joint_steps: Annotated[int, typer.Option(help="Batches to fine-tune both networks with, by the class.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images a batch.")] = 256,
    rendered_share: Annotated[
        float, typer.Option(help="The share of images that are enlarged, moved and reduced by kernels of many kinds.")
    ] = 0.5,
    localization_rate: Annotated[float, typer.Option(help="Adam's first rate; decays to 0.")] = 2e-3,
    classifier_rate: Annotated[float, typer.Option(help="Adam's first rate; decays to 0.")] = 2e-3,
    joint_rate: Annotated[
        float, typer.Option(help="The same, for the classifier; a tenth for the localization network.")
    ] = 5e-4,
    log_dir: Annotated[Path | None, typer.Option(help="Write TensorBoard logs into this folder.")] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Save into this folder, and go on from what the same command saved there.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="The HTML report to write; default: beside the bundle, by its name.")
    ] = None,
    seed: Seed = 1,
) -> None:
    """Teach a localization network with known theta, train a classifier behind it, and write bundle and report."""
    out = out if out.name.strip(".") else out.resolve()
    report = report or out.with_name(f"{out.name}.html")
    _check_places(out, {"--report": report, "--checkpoints": checkpoints, "--log-dir": log_dir})
    import_tensorflow_quietly()
    from stn_core import datasets
    from stn_core.recipes import load_recipe
    from stn_core.training import Journal
    from stn_core.training import train as train_bundle

    own = _own_classifier(classifier, classifier_steps)
    plan = _plan(
        recipe=load_recipe(recipe),
        jitter=None if jitter == "none" else load_recipe(jitter),
        localization=localization,
        classifier="own" if own else classifier,
        transform=transform,
        view=view,
        passes=passes,
        seed=seed,
        batch_size=batch_size,
        rendered_share=rendered_share,
        start_from=start_from,
        localization_steps=steps if localization_steps is None else localization_steps,
        teacher_steps=teacher_steps,
        classifier_steps=0 if own else steps if classifier_steps is None else classifier_steps,
        joint_steps=joint_steps,
        localization_rate=localization_rate,
        classifier_rate=classifier_rate,
        joint_rate=joint_rate,
    )
    splits = datasets.load(data, path=data_path, **_looks(data, size, channels, own))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{splits.summary()}; recipe {plan.recipe.name}; bundle {out}")
    _refuse_unfit(splits, plan)
    for note in [*splits.warnings(), *_notes_on_border(splits, plan), *_notes_on(own, splits)]:
        console.print(f"note: {note}")
    with _Bars(console, plan) as progress:
        journal = Journal(progress, log_dir, checkpoints)
        manifest = train_bundle(splits, plan, out, name or _name_of(out), journal, own, str(version))
    _report(console, out, splits, report)
    console.print(f"wrote {out} in {manifest.training['seconds']:.0f} s, and {report}")
    console.print(f"serve it with: stn serve --bundle {shlex.quote(str(out))}")


def _check_places(out: Path, places: dict[str, Path | None]) -> None:
    """InvalidInput for places that what comes out of the training cannot be written to, before it starts."""
    for option, place in places.items():
        if place is None:
            continue
        if out.resolve() in (place.resolve(), *place.resolve().parents):
            raise InvalidInput(f"{option}: expected a place outside of the bundle {out}, which holds nothing else")
        is_file = option == "--report"
        if is_file and place.suffix.lower() not in (".html", ".htm"):
            raise InvalidInput(f"{option}: expected the name of an .html file, got {str(place)!r}")
        if place.exists() and place.is_dir() == is_file:
            raise InvalidInput(f"{option}: {place} is {'a folder' if is_file else 'no folder'}; choose another name")


def _own_classifier(classifier: str, steps: int | None) -> OwnClassifier | None:
    """The user's own, if ``classifier`` names a file and not a kind."""
    from stn_core.classifiers import CLASSIFIER_KINDS
    from stn_core.training import load_classifier

    if classifier in CLASSIFIER_KINDS:
        return None
    if not classifier.endswith(".keras"):
        raise InvalidInput(
            f"--classifier: expected {', '.join(CLASSIFIER_KINDS)}, or the .keras file of your own, which a tf_keras "
            f"model's save('name.keras') writes; got {classifier!r}"
        )
    if steps:
        raise InvalidInput("--classifier-steps: a classifier of your own stays as it is; leave the option out")
    return load_classifier(Path(classifier))


def _plan(**fields: Any) -> TrainingPlan:
    from stn_core.training import TrainingPlan

    try:
        return TrainingPlan(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        problems = (
            "".join(f"--{part}: ".replace("_", "-") for part in problem["loc"]) + problem["msg"]
            for problem in error.errors()
        )
        raise InvalidInput("; ".join(problems)) from None


def _looks(data: str, size: str | None, channels: int | None, own: OwnClassifier | None) -> dict[str, Any]:
    """The size and the channels to read the images with: what is asked for, else what the user's classifier takes."""
    from stn_core.datasets import NAMED_SOURCES
    from stn_core.training import MIN_SIDE_PX

    if data in NAMED_SOURCES and (size or channels):
        raise InvalidInput(
            f"--{'size' if size else 'channels'}: {data} comes as it is; the option is for your own images"
        )
    if own is None:
        return {"size": parse_size(size), "channels": channels}
    own_size = own.size if min(own.size) >= MIN_SIDE_PX else None
    return {"size": parse_size(size) or own_size, "channels": channels or own.channels}


def _refuse_unfit(splits: Splits, plan: TrainingPlan) -> None:
    """InvalidInput if nothing can be trained on the images, with the option that helps."""
    from stn_core.training import MIN_SIDE_PX

    height, width, _ = splits.image_shape
    smallest = PAPER_MIN_SIDE_PX if plan.classifier == "paper" else MIN_SIDE_PX
    if min(height, width) < smallest:
        raise InvalidInput(
            f"--size: the images are of {height} x {width} px, and the networks need {smallest} px a side; enlarge "
            "them, by --size 28x28 for example"
        )
    if len(splits.classes) < 2:
        raise InvalidInput(
            f"--data: expected images of at least 2 classes, found the class {splits.classes[0]!r} alone; if that is "
            "a folder of class folders, give that one"
        )


def _notes_on(own: OwnClassifier | None, splits: Splits) -> list[str]:
    """How well the user's classifier reads straight images; BadData if it wants them in another range."""
    from stn_core.training.own import check_reading

    if own is None or (own.channels, own.classes) != (splits.image_shape[2], len(splits.classes)):
        return []  # one that does not fit is refused with the reason when the training begins
    reads, most = check_reading(own, splits.validation), np.bincount(splits.validation.labels).max()
    note = f"your classifier reads {reads:.1%} of the {len(splits.validation):,} straight validation images right"
    if reads <= most / len(splits.validation):
        note += f", no more than a guess; was it trained with the classes in this order: {brief(splits.classes)}?"
    return [note]


def _notes_on_border(splits: Splits, plan: TrainingPlan) -> list[str]:
    """Whether distorted images show where they end, which a network learns to look at instead of what is in them."""
    fill, unlike = plan.recipe.fill_fraction, splits.train.border_unlike(plan.recipe.fill_fraction)
    if plan.view == "disc" or unlike < TELLING_BORDER:
        return []
    return [
        f"{unlike:.0%} of the images' border is unlike what the recipe fills with (fill_fraction {fill:g}, 0 is "
        "black): the network will look at where the image ends, and fail where that does not show; try --view disc "
        "(docs/own-data.md)"
    ]


def _name_of(folder: Path) -> str:
    """A bundle's name from its folder's: lower case letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")[:64] or "bundle"


class _Bars:
    """A progress bar for each phase of the plan; gives the function that moves them.

    Where nobody watches (a log file), a line for each tenth of a phase instead.
    """

    def __init__(self, console: Console, plan: TrainingPlan) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:13}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        steps = {
            "localization": plan.localization_steps,
            "teacher": plan.teacher_steps,
            "classifier": plan.classifier_steps,
            "joint": plan.joint_steps,
        }
        self._tasks = {
            phase: self._bars.add_task(phase, total=total, loss="", start=False)
            for phase, total in steps.items()
            if total
        }
        self._tenths = dict.fromkeys(self._tasks, 0)

    def __enter__(self) -> Any:
        if self._console.is_terminal:
            self._bars.start()
        return self._move

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def _move(self, phase: str, done: int, total: int, loss: float) -> None:
        self._bars.start_task(self._tasks[phase])
        self._bars.update(self._tasks[phase], completed=done, loss=f"loss {loss:.4f}")
        if not self._console.is_terminal and done * 10 // total > self._tenths[phase]:
            self._tenths[phase] = done * 10 // total
            self._console.print(f"{phase}: {done:,} of {total:,} steps, loss {loss:.4f}")
        if done == total and phase == list(self._tasks)[-1]:
            self._bars.add_task("measuring", total=None, loss="")


def _report(console: Console, bundle: Path, splits: Splits, path: Path) -> None:
    """Writes the page that ``stn evaluate --report`` writes, of the test set, and prints the main measures."""
    from stn_core.engine import Engine
    from stn_core.evaluation import run_trial, summarize
    from stn_core.evaluation.report import write_report
    from stn_core.training import EVALUATION_SEED

    with console.status("writing the report"):
        engine = Engine.load(bundle)
        trial = run_trial(engine, splits.test, engine.manifest.recipe, EVALUATION_SEED, pose_data=splits.validation)
        write_report(path, [trial])
    found = summarize(trial)
    console.print(f"{found.images:,} test images, as they come -> rectified:")
    before, after = found.accuracy_distorted_unrectified, found.accuracy_distorted
    console.print(f"  accuracy, distorted       {before:8.4f} -> {after:.4f}")
    console.print(
        f"  accuracy, straight        {found.accuracy_original_unrectified:8.4f} -> {found.accuracy_original:.4f}"
    )
    if found.images_with_known_theta:
        before, after = found.corner_error_unrectified_px.median, found.corner_error_px.median
        console.print(f"  corner error, median      {before:8.2f} -> {after:.2f} px")
    if found.collapse:
        console.print(
            f"note: {found.collapsed_share:.1%} of the test images are zoomed away instead of straightened: this "
            "bundle is of no use; try a lower --localization-rate"
        )
