"""Images a second as images, requests, connections and replicas grow; a table and ``results/growth.png``.

    make bench PARTS=growth

Everything goes over HTTP. ``warp`` takes gray pictures of any size; ``predict`` takes digits. Replicas of the two
services share the cores that there are, so that more of them than cores gain nothing; how the scheduling itself grows
is seen from replicas that sleep (``sleeping.py``), beside the line of as many times what one can do.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from contest import FOLDER
from load import Plan, load
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from servers import REPOSITORY, Images, service, v2_request
from sleeping import SLEEP_S

from stn_core.datasets import sample_digits

DEFAULTS = {"rounds": 2, "seconds": 2.0}
PICTURE = FOLDER / "results" / "growth.png"
SIZES = ((28, 28), (64, 64), (128, 128), (256, 256), (512, 512), (720, 1280), (1080, 1920))
BATCHES = (1, 4, 16, 64, 256, 1024)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REPLICAS = (1, 2)
SLEEPERS = (1, 2, 4, 8, 16)
PIXELS_A_REQUEST, MOST_IMAGES = 1 << 21, 64
FEW_CONNECTIONS, CONNECTIONS_A_SLEEPER = 8, 4

Sweep = dict[str, float]
Rates = dict[str, list[float]]
Config = dict[str, Any]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Images a second of each sweep, the median over the rounds."""
    found: dict[str, Rates] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        _grow_requests(found, seconds)
        for deployment in ("Rectifier", "Classifier"):
            for replicas in REPLICAS:
                with _config("local", _replicated(deployment, replicas)) as path, service(path) as running:
                    plan = Plan(running.port, FEW_CONNECTIONS, seconds, MOST_IMAGES)
                    told = load(_predict(MOST_IMAGES), plan)
                found[f"replicas of {deployment}"][str(replicas)].append(told["images_s"])
        for replicas in SLEEPERS:
            found["replicas that sleep"][str(replicas)].append(_sleeping(replicas, seconds))
    sweeps = {name: {at: median(rates) for at, rates in each.items()} for name, each in found.items()}
    _show(sweeps)
    draw(sweeps, PICTURE)
    return {"images_per_s": sweeps}


def _grow_requests(found: Mapping[str, Rates], seconds: float) -> None:
    """The sweeps that one service serves."""
    with service("embedded") as running:

        def rate(request: bytes, connections: int, images: int) -> float:
            return load(request, Plan(running.port, connections, seconds, images))["images_s"]

        for height, width in SIZES:
            images = max(1, min(MOST_IMAGES, PIXELS_A_REQUEST // (height * width)))
            told = rate(_warp(images, height, width), FEW_CONNECTIONS, images)
            found["image size"][f"{height} x {width}"].append(told)
        for images in BATCHES:
            found["images in a request"][str(images)].append(rate(_predict(images), FEW_CONNECTIONS, images))
        for connections in CONNECTIONS:
            found["connections"][str(connections)].append(rate(_predict(1), connections, 1))


def _sleeping(replicas: int, seconds: float) -> float:
    """Images a second of so many replicas that sleep."""

    def change(config: Config) -> None:
        (application,) = config["applications"]
        application["import_path"] = "sleeping:build"
        application["args"]["classifier"] |= {"max_batch_images": MOST_IMAGES, "max_in_flight_batches": 1}
        application["args"]["classifier"]["max_in_flight_calls"] = CONNECTIONS_A_SLEEPER * replicas
        application["deployments"] = [{"name": "Sleeper", "num_replicas": replicas}]

    modules = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    with _config("local", change) as path, service(path, PYTHONPATH=modules) as running:
        connections = CONNECTIONS_A_SLEEPER * replicas
        request = v2_request("classify", {"images": _digits(MOST_IMAGES)}, ("label", "probabilities"))
        return load(request, Plan(running.port, connections, seconds, MOST_IMAGES))["images_s"]


def _replicated(deployment: str, replicas: int) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        for one in config["applications"][0]["deployments"]:
            if one["name"] == deployment:
                one["num_replicas"] = replicas

    return change


@contextlib.contextmanager
def _config(name: str, change: Callable[[Config], None]) -> Iterator[Path]:
    """The shipped config ``name``, changed, in a file of its own."""
    config = yaml.safe_load((REPOSITORY / "deploy" / f"{name}.yaml").read_text())
    change(config)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        yield Path(file.name)


@cache
def _digits(count: int) -> Images:
    images: Images = np.ascontiguousarray(sample_digits().images[:count])
    return images


def _predict(images: int) -> bytes:
    return v2_request("predict", {"images": _digits(images)}, ("label", "probabilities"))


def _warp(images: int, height: int, width: int) -> bytes:
    """Noise, turned and shifted a little."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, height, width, 1), np.uint8)
    theta: NDArray[Any] = np.tile(np.array([[0.9, 0.2, 0.1], [-0.2, 0.9, 0]], np.float32), (images, 1, 1))
    return v2_request("warp", {"images": pixels, "theta": theta}, ("images",))


def _show(sweeps: dict[str, Sweep]) -> None:
    table = Table("what grows", "to", "images/s", title="Growth", box=box.SIMPLE)
    for name, sweep in sweeps.items():
        for at, rate in sweep.items():
            table.add_row(name, at, f"{rate:,.0f}")
        table.add_section()
    Console().print(table)


def draw(sweeps: dict[str, Sweep], path: Path) -> None:
    """One panel for each sweep; both axes logarithmic, so that growth in proportion is a straight line."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for panel, (name, sweep) in zip(panels.flat, sweeps.items(), strict=True):
        rates = list(sweep.values())
        panel.plot(range(len(sweep)), rates, marker="o")
        if name == "replicas that sleep":
            ideal = [int(replicas) / SLEEP_S for replicas in sweep]
            panel.plot(range(len(sweep)), ideal, linestyle="--", color="grey", label="as many times one")
            panel.legend()
        panel.set_xticks(range(len(sweep)), sweep, rotation=45 if name == "image size" else 0, fontsize=8)
        panel.set_yscale("log")
        panel.set_ylim(min(rates) / 2, max(rates) * 2)
        panel.set_xlabel(name)
        panel.set_ylabel("images/s")
        panel.grid(alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
