"""The peers' side of the engines: ONNX Runtime as it is by default with one fused graph, and PyTorch in eager mode."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from contestant import Case
from inputs import given, given_file
from shapes import ENGINE_BATCHES


def onnx_runtime(batch: int) -> Case:
    session, images = _session(), given("digits")[:batch]
    return lambda: session.run(None, {"images": images}), batch


def pytorch(batch: int) -> Case:
    import torch
    from torch_networks import Straightened, fast_localization

    network, images = Straightened(fast_localization()).eval(), given("digits")[:batch]

    @torch.inference_mode()
    def run() -> Any:
        return network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    return run, batch


@cache
def _session() -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(given_file("fused.onnx"), providers=["CPUExecutionProvider"])


CASES = {
    f"{peer.__name__} {batch}": partial(peer, batch) for peer in (onnx_runtime, pytorch) for batch in ENGINE_BATCHES
}
