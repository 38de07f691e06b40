"""``stn export``: adds to a bundle the ONNX files that it is served from."""

from __future__ import annotations

import json

from rich.console import Console

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.options import Bundle


@app.command()
def export(bundle: Bundle) -> None:
    """Write a bundle's networks as ONNX into it, checked against TensorFlow; a bundle of `stn train` has them."""
    import_tensorflow_quietly()
    from stn_core.bundle import (
        METRICS,
        NETWORKS,
        find_bundle,
        load_network,
        read_calibration,
        read_manifest,
        write_bundle,
    )

    folder, manifest = find_bundle(bundle), read_manifest(bundle)
    networks = {name: load_network(folder, name) for name in NETWORKS}
    fields = manifest.model_dump(exclude={"files", "recipe"})
    measured = json.loads((folder / METRICS).read_text())
    calibration = read_calibration(folder, manifest)
    written = write_bundle(folder, networks, measured, calibration, **fields, recipe=manifest.recipe)
    names = [name for name in written.files if name.endswith(".onnx")]
    Console(soft_wrap=True).print(f"wrote {' and '.join(names) or 'no ONNX file'} into {folder}", highlight=False)
