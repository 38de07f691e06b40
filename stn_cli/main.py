"""The command line: ``stn train``, ``calibrate``, ``evaluate``, ``export``, ``serve`` and others; one module each."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.markup import escape

from stn_cli import (  # noqa: F401  each adds a command
    augment,
    calibrate,
    demo,
    deploy,
    evaluate,
    export,
    keys,
    map,
    node_environment,
    predict,
    rectify,
    reproduce,
    serve,
    shadow,
    train,
)
from stn_cli.app import app
from stn_cli.endings import INTERRUPTED, NOBODY_READS, NobodyReads, status_of
from stn_core.errors import StnError

# The extra of the package that brings a module the base install lacks.
_EXTRAS = {
    "tensorflow": "train",
    "tf_keras": "train",
    "imgaug": "train",
    "matplotlib": "train",
    "mlxtend": "train",
    "onnx": "train",
    "onnxruntime": "train",
    "tf2onnx": "train",
    "ray": "serve",
    "starlette": "serve",
    "yaml": "serve",
    "PIL": "train",
    "pyarrow": "bulk",
    "fsspec": "bulk",
    "pandas": "bulk",
}


def run() -> None:
    """The entry point: errors raised on purpose end in one line and exit status 2 or 3, without a traceback."""
    try:
        app()
    except StnError as error:
        text = f"[bold red]error[/] ({error.code}): {escape(str(error))}"
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)
        sys.exit(status_of(error))
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stdout.flush()
            os._exit(INTERRUPTED)  # threads with requests that hang would be waited for
        raise
    except NobodyReads:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be written at the end
        sys.exit(NOBODY_READS)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRAS:
            raise
        module = (error.name or "").split(".")[0]
        Console(stderr=True).print(
            f"[bold red]error[/]: it needs {module}; pip install 'stn-rectify\\[{_EXTRAS[module]}]' brings it",
            highlight=False,
        )
        sys.exit(2)
