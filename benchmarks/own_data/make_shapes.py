"""Makes a folder of colour pictures, one folder for each class, as somebody's own data might be.

    .venv/bin/python benchmarks/own_data/make_shapes.py shapes

Eight classes of upright shapes and letters in random colours, sizes (40 to 160 px a side, few of them square) and
places, on noisy backgrounds that run from one colour to another; PNG and JPEG in turn. ``--uneven`` adds what folders
of one's own have: a class with few images, one with a single image, and files that are no pictures. ``--turned`` turns
what is drawn and not the picture, so that the background reaches into the corners as in a photograph; the angle in
degrees, clockwise, is the end of the file's name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Outline = tuple[tuple[float, float], ...]
# Corners from -1 to 1, y down. Nothing that looks the same when turned: nobody could tell how it lies.
SHAPES: dict[str, tuple[Outline, ...] | str] = {
    "arrow": (((0, -1), (0.7, -0.2), (0.27, -0.2), (0.27, 1), (-0.27, 1), (-0.27, -0.2), (-0.7, -0.2)),),
    "boat": (
        ((-1, 0.35), (1, 0.35), (0.6, 0.9), (-0.6, 0.9)),
        ((-0.05, -1), (-0.05, 0.25), (-0.75, 0.25)),
        ((0.05, -0.7), (0.65, 0.25), (0.05, 0.25)),
    ),
    "flag": (((-0.7, -1), (0.8, -0.6), (-0.45, -0.1), (-0.45, 1), (-0.7, 1)),),
    "house": (((0, -1), (1, -0.2), (0.75, -0.2), (0.75, 0.9), (-0.75, 0.9), (-0.75, -0.2), (-1, -0.2)),),
    "letter-e": "E",
    "letter-f": "F",
    "letter-r": "R",
    "tree": (
        ((0, -1), (0.55, -0.25), (-0.55, -0.25)),
        ((0, -0.6), (0.8, 0.45), (-0.8, 0.45)),
        ((-0.15, 0.45), (0.15, 0.45), (0.15, 1), (-0.15, 1)),
    ),
}
FEW, FEW_SHARE, SINGLE = "flag", 0.1, ("letter-k", "K")
SIDES_PX = (40, 160)
RADIUS_SHARE = (0.26, 0.34)  # of the shorter side: what is drawn stays inside however it is turned
MAX_SHIFT_SHARE = 0.06
MAX_TURN_DEG = 90.0
LEAST_CONTRAST = 90
OVERSAMPLED = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--per-class", type=int, default=150, metavar="N")
    parser.add_argument("--uneven", action="store_true")
    parser.add_argument("--turned", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists; name a new folder")
    make(arguments.folder, arguments.per_class, arguments.uneven, arguments.turned, arguments.seed)


def make(folder: Path, per_class: int, uneven: bool, turned: bool, seed: int) -> None:
    """Writes the pictures of all classes."""
    wanted = {name: (shape, per_class) for name, shape in SHAPES.items()}
    if uneven:
        wanted[FEW] = (SHAPES[FEW], max(2, round(per_class * FEW_SHARE)))
        wanted[SINGLE[0]] = (SINGLE[1], 1)
    for kind, (name, (shape, count)) in enumerate(wanted.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            random = np.random.default_rng([seed, kind, number])
            angle_deg = float(random.uniform(-MAX_TURN_DEG, MAX_TURN_DEG)) if turned else 0.0
            end = f"_{angle_deg:+.2f}" if turned else ""
            suffix = "png" if number % 2 else "jpg"
            draw(shape, angle_deg, random).save(folder / name / f"{number:04}{end}.{suffix}", quality=90)
    if uneven:
        cut = (folder / "tree" / "0001.png").read_bytes()[:300]
        (folder / "tree" / "cut-short.png").write_bytes(cut)
        (folder / "boat" / "no-picture.jpg").write_text("This is text under the name of a picture.\n")


def draw(shape: tuple[Outline, ...] | str, angle_deg: float, random: np.random.Generator) -> Image.Image:
    """One picture of a shape turned by an angle, clockwise."""
    low, high = SIDES_PX
    longer = int(random.integers(low, high + 1))
    width, height = random.permutation([longer, max(low, round(longer * random.uniform(0.75, 1)))])
    mask = _mask(shape, min(width, height), angle_deg, random)
    background = _background(width, height, random)
    covered = Image.new("L", (width, height))
    shift = random.uniform(-MAX_SHIFT_SHARE, MAX_SHIFT_SHARE, 2) * min(width, height)
    left, top = ((width - mask.width) / 2 + shift[0], (height - mask.height) / 2 + shift[1])
    covered.paste(mask, (round(left), round(top)))
    share = np.asarray(covered, np.float32)[..., None] / 255
    pixels = background * (1 - share) + _contrasting(background.mean(axis=(0, 1)), random) * share
    noise = random.normal(0, random.uniform(2, 12), pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _mask(shape: tuple[Outline, ...] | str, side: int, angle_deg: float, random: np.random.Generator) -> Image.Image:
    """The shape in white on black, in a square of ``side`` px, smooth at its edges."""
    large = side * OVERSAMPLED
    centre, radius = large / 2, large * random.uniform(*RADIUS_SHARE)
    mask = Image.new("L", (large, large))
    canvas = ImageDraw.Draw(mask)
    if isinstance(shape, str):
        font = ImageFont.load_default(2.4 * radius)
        canvas.text((centre, centre), shape, 255, font, anchor="mm", stroke_width=radius * 0.07)
    else:
        for outline in shape:
            canvas.polygon([(centre + radius * x, centre + radius * y) for x, y in outline], 255)
    return mask.rotate(-angle_deg, Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.BOX)


def _background(width: int, height: int, random: np.random.Generator) -> NDArray[np.float64]:
    """From one colour to another, in a random direction."""
    first, second = random.uniform(0, 200, (2, 3))
    direction = random.uniform(-1, 1, 2)
    y, x = np.mgrid[0:height, 0:width]
    along = direction[0] * x / width + direction[1] * y / height
    share = (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    mixed: NDArray[np.float64] = first + (second - first) * share[..., None]
    return mixed


def _contrasting(background: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """A random colour that stands out from the background's."""
    while True:
        colour = random.uniform(0, 255, 3)
        if abs(float(colour.mean() - background.mean())) > LEAST_CONTRAST:
            return colour


if __name__ == "__main__":
    main()
