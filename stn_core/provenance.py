"""When, from which commit, on what machine and with what versions a measurement was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "tf_keras", "numpy", "imaug")


def provenance() -> dict[str, Any]:
    """What belongs beside every measured figure: date, commit, machine, versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "versions": _versions(),
    }


def _commit() -> str:
    """The short commit this code is run from, marked where it was changed since; "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        git = ["git", "-C", str(folder)]
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--", str(folder)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + (" with changes" if changes.stdout.strip() else "")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def _machine() -> dict[str, Any]:
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in _gpus(tf)]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "cores": len(os.sched_getaffinity(0)),
        "accelerator": ", ".join(gpus) or "no GPU",
    }


def _gpus(tf: Any) -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
