"""``stn demo``: starts the service, sends it a batch of real distorted digits, and shows what comes back."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from stn_cli.app import app
from stn_cli.options import RecipeOption, Seed
from stn_core.errors import InvalidInput, StnError
from stn_core.recipes import Recipe, load_recipe

START_TIMEOUT_S = 180.0
SHOWN = 16
PICTURED = 10


@app.command()
def demo(
    url: Annotated[str | None, typer.Option(help="A running service; without it one is started and kept up.")] = None,
    port: Annotated[int, typer.Option(help="The port of the service to start.")] = 8000,
    images: Annotated[int, typer.Option(min=1, max=5000, help="How many digits.")] = 256,
    recipe: RecipeOption = "tutorial-mix",
    picture: Annotated[Path, typer.Option(help="Where to draw the picture.")] = Path("out/demo.png"),
    seed: Seed = 7,
) -> None:
    """Rectify and classify a batch of real distorted digits before your eyes, then keep serving until Ctrl-C."""
    console, chosen = Console(), load_recipe(recipe)
    if url is not None:
        show(url, images, chosen, picture, seed, console)
        return
    url = f"http://127.0.0.1:{port}"
    with _service(port) as service:
        _wait_until_ready(url, service)
        show(url, images, chosen, picture, seed, console)
        console.print(f"\nThe service keeps running at [bold]{url}[/]; Ctrl-C stops it.", highlight=False)
        if service.wait() != 0:
            raise StnError(f"the service ended with status {service.returncode}")


@contextlib.contextmanager
def _service(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """``stn serve`` in a process of its own, ended with everything it started when the block is left."""
    from services.processes import port_is_free

    if not port_is_free("127.0.0.1", port):
        raise InvalidInput(f"port {port} is in use; show what serves there with --url, or choose another --port")
    # A demo that is terminated, or whose terminal is closed, must still take the service down: the signal becomes the
    # exception that `finally` sees.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))
    # In a session of its own the service hears of Ctrl-C once, from here, and not from the terminal as well.
    command = [sys.executable, "-m", "stn_cli", "serve", "--port", str(port)]
    service = subprocess.Popen(command, start_new_session=True)
    try:
        yield service
    except KeyboardInterrupt:
        pass
    finally:
        _stop(service)


def show(url: str, count: int, recipe: Recipe, picture: Path, seed: int, console: Console) -> None:
    """Sends ``count`` real digits through the service at ``url``, prints the outcome and draws ``picture``."""
    from stn_client import Client

    from stn_core.datasets import sample_digits
    from stn_core.geometry import identity
    from stn_core.transforms import corner_errors_px

    digits = sample_digits()
    chosen = np.random.default_rng(seed).choice(len(digits.images), count, replace=False)
    originals, labels = digits.images[chosen], digits.labels[chosen]
    with Client(url) as client:
        distorted = client.augment(originals, recipe.model_dump(mode="json", exclude_unset=True), seed)
        started_s = time.perf_counter()
        answer = client.predict(distorted.images)
        seconds = time.perf_counter() - started_s
        without = client.classify(distorted.images)

    size = (originals.shape[1], originals.shape[2])
    before_px = corner_errors_px(distorted.theta, identity(count), size)
    after_px = corner_errors_px(distorted.theta, answer.theta, size)
    console.print(_table(labels, without.label, answer, before_px, after_px))
    right, right_without = answer.label == labels, without.label == labels
    console.print(
        f"{count} real digits, distorted by recipe {recipe.name}, in {seconds * 1000:.0f} ms "
        f"(none of them was used to train the shipped model)",
        highlight=False,
    )
    console.print(f"  accuracy without rectification   {right_without.mean():.4f}", highlight=False)
    console.print(f"  accuracy with rectification      [bold]{right.mean():.4f}[/]", highlight=False)
    console.print(
        f"  median corner error              {np.median(before_px):.2f} px -> {np.median(after_px):.2f} px",
        highlight=False,
    )
    _draw(picture, originals, distorted.images, answer, without.label, labels, before_px, after_px)
    console.print(f"  picture                          {picture.resolve()}", highlight=False, soft_wrap=True)


def _table(labels: Any, without: Any, answer: Any, before_px: Any, after_px: Any) -> Table:
    table = Table(title=f"The first {min(SHOWN, len(labels))} of the batch")
    for heading in ("true", "read as it came", "read rectified", "probability", "corner error, px"):
        table.add_column(heading, justify="right")
    for k in range(min(SHOWN, len(labels))):
        table.add_row(
            str(labels[k]),
            _coloured(without[k], labels[k]),
            _coloured(answer.label[k], labels[k]),
            f"{answer.probabilities[k].max():.3f}",
            f"{before_px[k]:.1f} -> {after_px[k]:.1f}",
        )
    return table


def _coloured(predicted: int, label: int) -> str:
    return f"[{'green' if predicted == label else 'bold red'}]{predicted}[/]"


def _draw(
    picture: Path, originals: Any, distorted: Any, answer: Any, without: Any, labels: Any, before_px: Any, after_px: Any
) -> None:
    from stn_core.figures import Row, rectification_grid

    part = slice(0, PICTURED)
    picture.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        Row("original", originals[part]),
        Row("distorted", distorted[part], without[part], before_px[part]),
        Row("rectified", answer.rectified[part], answer.label[part], after_px[part]),
    ]
    rectification_grid(picture, rows, labels[part], columns=PICTURED)


def _wait_until_ready(url: str, service: subprocess.Popen[bytes]) -> None:
    from stn_client import Client

    deadline_s = time.monotonic() + START_TIMEOUT_S
    with Client(url) as client:
        while not client.server_ready():
            if service.poll() is not None:
                raise StnError(f"the service ended with status {service.returncode} before it was ready; see above")
            if time.monotonic() > deadline_s:
                raise StnError(f"the service was not ready after {START_TIMEOUT_S:.0f} s")
            time.sleep(0.3)


def _stop(service: subprocess.Popen[bytes]) -> None:
    """Ends the service and waits, so that nothing it started is left behind."""
    if service.poll() is None:
        service.send_signal(signal.SIGINT)
        try:
            service.wait(timeout=60)
        except subprocess.TimeoutExpired:
            service.kill()
