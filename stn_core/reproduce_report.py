"""What a reproduction writes: the table beside the published figures, how and where it was made, and the pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core import anchors
from stn_core.augment import Augmentation
from stn_core.datasets import Dataset, to_float
from stn_core.figures import Row, Verdict, rectification_grid, verdict_figure
from stn_core.geometry import identity
from stn_core.original import ROWS, predicted_theta, probabilities, straightened
from stn_core.provenance import provenance
from stn_core.transforms import corner_errors_px

ANGLES_DEG = (-60, -45, -30, 30, 45, 60)
ARGUED_DIGIT = 2


def describe_run(plan: dict[str, Any], data: str, cluttered_note: str) -> dict[str, Any]:
    """When, from which commit, where and with what a run was made, and the figures it is compared with."""
    return {
        **provenance(),
        "plan": {key: None if value is None else value if isinstance(value, int) else Path(value).name
                 for key, value in plan.items()},
        "data": data,
        "cluttered": cluttered_note,
        "anchors": {
            "published": {"by": anchors.PUBLISHED_BY, **{key: asdict(one) for key, one in anchors.PUBLISHED.items()}},
            "measured": {"by": anchors.MEASURED_BY, **{key: asdict(one) for key, one in anchors.MEASURED.items()}},
            "corner_error_px": anchors.MEASURED_CORNER_ERROR_PX,
            "cluttered": anchors.CLUTTERED,
        },
    }  # fmt: skip


def write_table(out_dir: Path, table: dict[str, Any]) -> None:
    """``table.json`` with everything, ``table.md`` for readers."""
    (out_dir / "table.json").write_text(json.dumps(table, indent=2) + "\n")
    (out_dir / "table.md").write_text(markdown(table))


def markdown(table: dict[str, Any]) -> str:
    """The table as Markdown; in each cell this run first, then the tutorial's own figure / the one measured again."""
    head = (
        "model",
        "parameters",
        "original",
        "distorted",
        "cluttered",
        "corner error",
        "training",
        "CPU time",
        "images/s",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, row in table["rows"].items():
        cells = (
            ROWS[key], f"{row['parameters']:,}", _accuracy_cell(key, row, "original"),
            _accuracy_cell(key, row, "distorted"),
            "-" if row["cluttered"] is None else f"**{row['cluttered']:.4f}**",
            "-" if row["corner_error_px"] is None else f"{row['corner_error_px']:.1f} px",
            f"{row['seconds']:.0f} s", f"{row['cpu_seconds']:.0f} s", f"{row['images_per_s']:,}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    machine, plan = table["machine"], table["plan"]
    notes = [
        f"Accuracy on {table['test_images']:,} test images: **this run** (published / measured again). Published: "
        f"{anchors.PUBLISHED_BY}. Measured again: {anchors.MEASURED_BY}.",
        f"Trained on {table['train_images']:,} images of {table['data']}, original and distorted, {plan['epochs']} "
        f"epochs, seed {plan['seed']}.",
        f"Corner error: the median over the distorted test images; {table['corner_error_px_before']:.1f} px before. "
        f"Measured again from the tutorial's code: "
        + ", ".join(f"{key} {value} px" for key, value in anchors.MEASURED_CORNER_ERROR_PX.items()) + ".",
        f"Cluttered MNIST: {table['cluttered']}. Reported elsewhere: "
        + "; ".join(f"{who}: {what}" for who, what in anchors.CLUTTERED.items()) + ".",
        f"{table['date'][:10]}, commit {table['commit']}, {machine['processor']}, {machine['cores']} cores "
        f"(load average {machine['load_average_1_min']}), "
        f"{machine['accelerator']}, TensorFlow {table['versions']['tensorflow']}.",
    ]  # fmt: skip
    return "\n".join(["# The original system, run again", "", *lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _accuracy_cell(key: str, row: dict[str, Any], column: str) -> str:
    others = [getattr(source.get(key), column, None) for source in (anchors.PUBLISHED, anchors.MEASURED)]
    return f"**{row[column]:.4f}** ({' / '.join('-' if one is None else f'{one:.4f}' for one in others)})"


def write_pictures(
    out_dir: Path, networks: dict[str, Any], original: Dataset, distorted: Augmentation
) -> tuple[list[str], dict[str, Any]]:
    """The two pictures' file names, and how often each network recognizes the turned digit of the second."""
    grid = _grid(out_dir / "rectified.png", networks, original, distorted)
    argument, rates = _rotated_digit(out_dir / "rotated.png", networks, original)
    return [grid.name, argument.name], rates


def _grid(path: Path, networks: dict[str, Any], original: Dataset, distorted: Augmentation) -> Path:
    """The first test image of each class: as it is, distorted, and after the transformer."""
    chosen = np.array([np.flatnonzero(original.labels == label)[0] for label in np.unique(original.labels)])
    crooked, theta = distorted.images[chosen], distorted.theta[chosen]
    height, width = crooked.shape[1:3]

    def called(key: str, images: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(probabilities(networks[key], images).argmax(axis=1))

    before = corner_errors_px(theta, identity(len(chosen)), (height, width))
    after = corner_errors_px(theta, predicted_theta(networks["stn+cnn"], crooked), (height, width))
    rows = [
        Row("original\nCNN", original.images[chosen], called("cnn", original.images[chosen])),
        Row("distorted\nCNN", crooked, called("cnn", crooked), before),
        Row("rectified\nSTN + CNN", straightened(networks["stn+cnn"], crooked), called("stn+cnn", crooked), after),
    ]
    return rectification_grid(path, rows, original.labels[chosen], original.classes)


def _rotated_digit(path: Path, networks: dict[str, Any], test: Dataset) -> tuple[Path, dict[str, Any]]:
    """A 2 the CNN recognizes, the same turned, which it does not, and turned behind the transformer.

    The picture shows the clearest case there is; the rates say how common such cases are.
    """
    digit = ARGUED_DIGIT if (test.labels == ARGUED_DIGIT).any() else int(test.labels[0])
    upright = to_float(test.images[test.labels == digit])
    upright_probabilities = probabilities(networks["cnn"], upright)
    rates: dict[str, Any] = {"digit": test.classes[digit], "images": len(upright), "recognized": {}}
    clearest: tuple[float, int, int] = (-np.inf, 0, 0)
    for angle in ANGLES_DEG:
        turned = turn(upright, angle)
        plain, behind = (probabilities(networks[key], turned) for key in ("cnn", "stn+cnn"))
        rates["recognized"][str(angle)] = {
            key: round(float((found.argmax(axis=1) == digit).mean()), 4)
            for key, found in (("cnn", plain), ("stn+cnn", behind))
        }
        other = np.delete(plain, digit, axis=1).max(axis=1) - plain[:, digit]
        clarity = np.minimum(np.minimum(upright_probabilities[:, digit], behind[:, digit]), other)
        clearest = max(clearest, (float(clarity.max()), angle, int(clarity.argmax())))
    _, angle, number = clearest
    rates["shown"] = {"angle_deg": angle, "number": number}
    image, turned = upright[number : number + 1], turn(upright[number : number + 1], angle)
    shown = rates["recognized"][str(angle)]
    verdicts = [
        Verdict("upright\nCNN", image[0], upright_probabilities[number]),
        Verdict(f"turned by {abs(angle)}°\nCNN", turned[0], probabilities(networks["cnn"], turned)[0]),
        Verdict(
            "turned and rectified\nSTN + CNN",
            straightened(networks["stn+cnn"], turned)[0],
            probabilities(networks["stn+cnn"], turned)[0],
        ),
    ]
    caption = (
        f"The clearest case: of all {len(upright):,} test images of a {test.classes[digit]}, turned like this one, "
        f"the CNN recognizes {shown['cnn']:.1%} and the STN + CNN {shown['stn+cnn']:.1%}."
    )
    return verdict_figure(path, verdicts, digit, test.classes, caption), rates


def turn(images: NDArray[np.float32], angle_deg: float) -> NDArray[np.float32]:
    """Square images ``[N, H, W, C]`` turned about their centres, counter-clockwise if the angle is positive."""
    from stn_core.sampler import warp

    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    theta = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]], np.float32)  # y points down: output to input
    warped: NDArray[np.float32] = warp(images, np.tile(theta, (len(images), 1, 1))).numpy()
    return warped
