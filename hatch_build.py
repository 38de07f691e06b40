"""Compiles the sampler in C when the package is built or installed; without a compiler the package goes without it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("stn_core/native")
FLAGS = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
# Every processor that runs TensorFlow has these instructions; the code chooses among newer ones when it is loaded.
X86_FLAGS = ["-march=x86-64-v2"]


class SamplerHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / FOLDER
        library = folder / "warp.so"
        problem = _compile(sorted(folder.glob("*.c")), library)
        if problem:
            library.unlink(missing_ok=True)
            self.app.display_warning(f"the sampler in C was not compiled: {problem}")
            return
        build_data["artifacts"].append(str(FOLDER / library.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compile(sources: list[Path], library: Path) -> str:
    """What went wrong; empty if nothing did."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = FLAGS + (X86_FLAGS if platform.machine() == "x86_64" else [])
    problem = ""
    for more in ([], ["-DONE_CPU"]):  # older compilers cannot make one function for several processors
        command = [*compiler, *flags, *more, "-o", str(library), *map(str, sources), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            return f"{compiler[0]}: {error.strerror}"
        except subprocess.CalledProcessError as error:
            problem = (
                error.stderr.strip().splitlines()[0] if error.stderr.strip() else f"exit status {error.returncode}"
            )
        else:
            return ""
    return problem
