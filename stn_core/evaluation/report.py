"""Trials as one HTML page that needs nothing else: measures, error curves, and the images that went worst.

Pictures are inlined, there is no script, and every text from outside (names of data, recipes, classes) is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from itertools import product
from pathlib import Path

import numpy as np

from stn_core.evaluation.measures import collapsed
from stn_core.evaluation.summary import Evaluation, Measures, summarize
from stn_core.evaluation.table import SECTIONS, Row, cell, groups
from stn_core.evaluation.trial import Indices, Trial, worst_first
from stn_core.figures import INK, PALE, RIGHT, WRONG, ErrorCurves, error_curves, strip
from stn_core.provenance import provenance

MAX_REPORT_BYTES = 1_000_000
WORST = (50, 25, 10)
EXAMPLES = 12
THUMBNAIL_SIDES_PX = (96, 64, 48, 32)
SHOWN_HEIGHT_PX = 96
FIGURE_SCALE = 0.65


def write_report(path: Path, trials: Sequence[Trial]) -> Path:
    """Writes the page of all ``trials``, a section each, below 1 MB: of large images smaller, of many trials fewer."""
    facts, evaluations = provenance(), [summarize(trial) for trial in trials]
    head = _head(trials, evaluations, facts)
    for most, side_px in product(WORST, THUMBNAIL_SIDES_PX):
        page = _page(head, [_cases(trial, most, side_px) for trial in trials])
        if len(page) <= MAX_REPORT_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page)
    return path


def _page(head: str, sections: Sequence[str]) -> bytes:
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{head}\n{''.join(sections)}\n</html>\n"
    ).encode()


def _head(trials: Sequence[Trial], evaluations: Sequence[Evaluation], facts: dict[str, object]) -> str:
    first = evaluations[0]
    title = escape(f"{first.bundle}, version {first.bundle_version}, on {first.data}")
    machine = facts["machine"]
    assert isinstance(machine, dict)
    made = f"{facts['date']}, commit {facts['commit']}, {machine['processor']}"
    recipes = ", ".join(evaluation.recipe for evaluation in evaluations)
    return (
        f"<title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n"
        f'<p class="quiet">{first.images:,} images, distorted by {escape(recipes)}, seed {first.seed}. '
        f"{escape(made)}.</p>\n"
        f"{''.join(map(_verdict, evaluations))}<h2>Measures</h2>\n{_table(evaluations)}"
        f'<p class="quiet">Before: the images as they come. After: rectified. True: straightened by the theta that is '
        f"known. Pose-free: a constant transform, fitted on {escape(first.pose_fitted_on)}, is "
        f"taken off first. Shares and rates are of 1; px are those of the original images.</p>\n"
        f"<h2>Corner error</h2>\n{_curves(trials)}"
    )


def _verdict(evaluation: Evaluation) -> str:
    """A warning where the network collapsed; nothing where it did not."""
    if not evaluation.collapse:
        return ""
    return (
        f'<p class="warning"><b>Collapse.</b> {escape(evaluation.recipe)}: {evaluation.collapsed_share:.1%} of the '
        "rectified images are zoomed by more than 4 times the area they should be, either way, or have lost half of "
        "their content. Do not trust the other figures.</p>\n"
    )


def _table(evaluations: Sequence[Evaluation]) -> str:
    columns = groups(evaluations)
    names = "".join(f'<th colspan="3" class="group" scope="colgroup">{escape(name)}</th>' for name, _ in columns)
    counts = "".join(f'<td colspan="3" class="group">{measures.images:,} images</td>' for _, measures in columns)
    kinds = '<th class="group">before</th><th>after</th><th>true</th>' * len(columns)
    head = "\n".join(f"<tr><td></td>{line}</tr>" for line in (names, counts, kinds))
    body = "".join(
        "<tbody>\n" + "".join(_table_row(row, columns) for row in rows) + "</tbody>\n" for rows in SECTIONS.values()
    )
    return f'<div class="wide"><table>\n<thead>\n{head}\n</thead>\n{body}</table></div>\n'


def _table_row(row: Row, columns: Sequence[tuple[str, Measures]]) -> str:
    cells = "".join(
        f'<td class="{kind}">{cell(measures, field, row.decimals)}</td>'
        for _, measures in columns
        for kind, field in (("group", row.before), ("after", row.after), ("true", row.true))
    )
    return f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>\n'


def _curves(trials: Sequence[Trial]) -> str:
    panels = []
    for trial in trials:
        before, after = trial.straight["unrectified"], trial.straight["rectified"]
        several = len(trial.families) > 1
        parts = {trial.recipe: np.ones(len(trial.known), bool), **(trial.families if several else {})}
        for name, rows in parts.items():
            known = rows & trial.known
            if known.any():
                errors = (before.corner_error_px, after.corner_error_px, after.pose_free_error_px)
                panels.append(ErrorCurves(name, *(error[known] for error in errors)))
    if not panels:
        return "<p>No theta tells of these distortions.</p>\n"
    png = error_curves(panels)
    width_px = round(FIGURE_SCALE * _size_px(png)[0])
    return (
        '<img class="figure" alt="Share of images by corner error" '
        f'style="width: {width_px}px" src="{_inlined(png)}">\n'
    )


def _cases(trial: Trial, most: int, side_px: int) -> str:
    """The images that went worst, those that rectification hurt, and examples of all."""
    order, by = worst_first(trial)
    labels = trial.data.labels
    right_before, right_after = (trial.shown[kind].labels == labels for kind in ("unrectified", "rectified"))
    hurt = order[(right_before & ~right_after)[order]]
    ranks = np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int)
    recipe = escape(trial.recipe)
    return (
        f"<h2>{recipe}: the worst {len(order[:most])}</h2>\n"
        f'<p class="quiet">By {by}. Original, distorted, rectified; what the distorted and the rectified image are '
        f"read as; the corner error before and after.</p>\n{_cards(trial, order[:most], side_px)}"
        f"<h2>{recipe}: read right as they come, wrong after rectification</h2>\n"
        f'<p class="quiet">{len(hurt[:most])} of {len(hurt)}.</p>\n{_cards(trial, hurt[:most], side_px)}'
        f"<h2>{recipe}: examples</h2>\n"
        f'<p class="quiet">From the worst to the best, at even ranks.</p>\n{_cards(trial, order[ranks], side_px)}'
    )


def _cards(trial: Trial, indices: Indices, side_px: int) -> str:
    return f'<div class="cards">\n{"".join(_card(trial, int(index), side_px) for index in indices)}</div>\n'


def _card(trial: Trial, index: int, side_px: int) -> str:
    images = (trial.originals.images[index], trial.distorted[index], trial.shown["rectified"].images[index])
    png = strip(images, side_px)
    width_px, height_px = _size_px(png)
    enlarged = max(1, round(SHOWN_HEIGHT_PX / height_px))
    family = next(name for name, rows in trial.families.items() if rows[index])
    facts = [f"no. {index}"] if family == trial.recipe else [family, f"no. {index}"]
    if trial.known[index]:
        errors = (trial.straight[kind].corner_error_px[index] for kind in ("unrectified", "rectified"))
        facts.insert(0, " → ".join(f"{error_px:.1f}" for error_px in errors) + " px")
    if collapsed(trial.shown["rectified"].coverage, trial.shown["true"].coverage)[index]:
        facts.append("collapsed")
    return (
        f'<figure><img alt="original, distorted, rectified" src="{_inlined(png)}" '
        f'style="width: {enlarged * width_px}px">\n<figcaption>{_reading(trial, index)}<br>'
        f"{escape(' · '.join(facts))}</figcaption></figure>\n"
    )


def _reading(trial: Trial, index: int) -> str:
    """The class, and what the image is read as before and after, coloured."""
    names, label = trial.data.classes, int(trial.data.labels[index])
    found = [int(trial.shown[kind].labels[index]) for kind in ("unrectified", "rectified")]
    before, after = (f'<b class="{"right" if one == label else "wrong"}">{escape(names[one])}</b>' for one in found)
    return f"<b>{escape(names[label])}</b> read as {before} → {after}"


def _size_px(png: bytes) -> tuple[int, int]:
    """Width and height, which stand in the PNG's first chunk."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def _inlined(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; background: white; max-width: 80rem; margin: 2rem auto;
  padding: 0 1.2rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0.2rem; }}
h2 {{ font-size: 1.15rem; margin: 2.4rem 0 0.4rem; }}
.quiet {{ color: #57606a; font-size: 0.87rem; font-weight: normal; margin: 0.2rem 0 0.8rem; }}
.warning {{ border-left: 4px solid {WRONG}; background: #fdf0ef; padding: 0.7rem 1rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }}
th {{ font-weight: 600; }}
th, td {{ padding: 0.12rem 0.55rem; text-align: right; white-space: nowrap; }}
thead td, thead th[colspan] {{ text-align: left; }}
thead tr:last-child th, tbody th {{ font-weight: normal; color: #57606a; }}
tbody th {{ text-align: left; color: {INK}; position: sticky; left: 0; background: white; }}
tbody tr:first-child > * {{ border-top: 1px solid {PALE}; padding-top: 0.35rem; }}
tbody tr:last-child > * {{ padding-bottom: 0.35rem; }}
.after {{ font-weight: 600; }}
.group {{ border-left: 1px solid {PALE}; }}
img.figure {{ max-width: 100%; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 1.2rem 1rem; }}
figure {{ margin: 0; width: 17.5rem; }}
figure img {{ image-rendering: pixelated; display: block; max-width: 100%; }}
figcaption {{ font-size: 0.8rem; line-height: 1.35; margin-top: 0.25rem; }}
.right {{ color: {RIGHT}; }}
.wrong {{ color: {WRONG}; }}
"""
