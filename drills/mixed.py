"""Traffic of every kind that the service takes, each answer checked; in a process of its own.

    python -m drills.mixed FOLDER '{"port": ..., "grpc_port": ..., "rate": ...}'

As ``drills.traffic_process``: the folder has ``known.npz``, and gets ``records``; it ends when its stdin is closed.
What the engine says is compared with ``predict``'s answers; a call of another model must be answered as at first. A
record's ``said`` is the kind of its request.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from stn_client import Client
from tritonclient.grpc import InferenceServerClient, InferInput

from drills.known import Array, Known
from drills.outcome import Verdict
from drills.traffic import Plan, Record
from drills.traffic_process import COME_AGAIN, HOST, Course
from stn_core.errors import Overloaded, StnError, Unavailable
from stn_core.png import encode_png

THREADS, IMAGES = 3, 16
THETA = np.array([[0.9, 0.2, 0.1], [-0.2, 0.9, 0.0]], np.float32)
INFER = "/v2/models/predict/infer"

Ask = Callable[[], Any]


class Wrong(Exception):
    """The answer is not what it has to be."""


class Mixed:
    """The kinds of requests: each sends one and returns if all is well."""

    def __init__(self, known: Known, port: int, grpc_port: int) -> None:
        self._known, (self._right,) = known, known.answers.values()
        self._client = Client(f"http://{HOST}:{port}")
        self._http = httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60)
        self._grpc = InferenceServerClient(f"{HOST}:{grpc_port}")
        self._few = known.images[:IMAGES]
        self._files = [encode_png(image) for image in self._few[:4]]
        self._photo = encode_png(np.kron(known.images[0], np.ones((8, 8, 1), np.uint8)))
        self._first: dict[str, Array] = {}
        self.kinds: dict[str, Ask] = {
            "predict, SDK": self.predict,
            "predict, JSON": self.predict_json,
            "predict, gRPC": self.predict_grpc,
            "rectify, SDK": lambda: self._as_at_first("rectify", self._client.rectify(self._few).theta),
            "warp, SDK": lambda: self._as_at_first("warp", self._client.warp(self._few, THETA)),
            "augment, SDK": lambda: self._as_at_first(
                "augment", self._client.augment(self._few, "tutorial-mix", 1).theta
            ),
            "straighten, PNG": lambda: self._as_at_first(
                "straighten", np.asarray(self._client.straighten([self._photo]).theta)
            ),
            "predict, PNG files": self.predict_files,
            "straighten, PNG file": lambda: self._refused(
                200, "/v1/straighten", content=self._photo, headers={"content-type": "image/png"}
            ),
            "bad shape": lambda: self._refused(400, INFER, json=_json_request(self._few[:1, :5])),
            "bad JSON": lambda: self._refused(400, INFER, content=b'{"inputs": [', headers=_JSON),
            "unknown model": lambda: self._refused(404, "/v2/models/none/infer", json={}),
            "broken PNG": lambda: self._refused(
                400, "/v1/predict", content=self._photo[:90], headers={"content-type": "image/png"}, of_file=True
            ),
        }

    def predict(self) -> None:
        found = self._client.predict(self._few)
        self._as_known({"label": found.label, "probabilities": found.probabilities, "theta": np.asarray(found.theta)})

    def predict_json(self) -> None:
        outputs = self._ok(self._http.post(INFER, json=_json_request(self._few)))["outputs"]
        self._as_known({one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in outputs})

    def predict_grpc(self) -> None:
        tensor = InferInput("images", list(self._few.shape), "UINT8")
        tensor.set_data_from_numpy(self._few)
        found = self._grpc.infer("predict", [tensor])
        self._as_known({name: found.as_numpy(name) for name in ("label", "probabilities", "theta")})

    def predict_files(self) -> None:
        files = [("image", (f"{n}.png", data, "image/png")) for n, data in enumerate(self._files)]
        results = self._ok(self._http.post("/v1/predict", files=files))["results"]
        labels = [one.get("label") for one in results]
        if labels != self._right["label"][: len(files)].tolist():
            raise Wrong(str(labels))

    def _as_known(self, answer: dict[str, Any]) -> None:
        if self._known.version_of(np.arange(IMAGES), answer) is None:
            raise Wrong(str(answer["label"]))

    def _as_at_first(self, kind: str, found: Array) -> None:
        first = self._first.setdefault(kind, found)
        if first.shape != found.shape or not np.allclose(first, found, atol=1e-3):
            raise Wrong(kind)

    def _refused(self, status: int, path: str, of_file: bool = False, **request: Any) -> None:
        answer = self._http.post(path, **request)
        if answer.status_code in COME_AGAIN:
            raise Overloaded(answer.text)
        found = answer.json()["results"][0]["error"]["status"] if of_file and answer.is_success else answer.status_code
        if found != status:
            raise Wrong(f"{found} {answer.text}")

    def _ok(self, answer: httpx.Response) -> Any:
        if answer.status_code in COME_AGAIN:
            raise Overloaded(answer.text)
        if answer.status_code != 200:
            raise Wrong(f"{answer.status_code} {answer.text}")
        return answer.json()


_JSON = {"content-type": "application/json"}


def _json_request(images: Array) -> dict[str, Any]:
    tensor = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": images.ravel().tolist()}
    return {"inputs": [tensor], "outputs": [{"name": name} for name in ("label", "probabilities", "theta")]}


def _record(kind: str, ask: Ask, due_s: float) -> Record:
    verdict, said = Verdict.RIGHT, ""
    try:
        ask()
    except Wrong as error:
        verdict, said = Verdict.WRONG, str(error)
    except (Overloaded, Unavailable) as error:
        verdict, said = Verdict.REFUSED, str(error)
    except (StnError, httpx.HTTPError, Exception) as error:  # whatever went wrong, no answer came
        verdict, said = Verdict.LOST, repr(error)
    text = kind if not said else f"{kind}: {said[:200]}"
    return Record(time.time(), time.perf_counter() - due_s, verdict, 0, "", text)


def main() -> None:
    folder, told = Path(sys.argv[1]), json.loads(sys.argv[2])
    mixed = Mixed(Known.load(folder / "known.npz"), told["port"], told["grpc_port"])
    course = Course(Plan(told["port"], rate=told["rate"]))
    records: list[Record] = []

    def work() -> None:
        while (due_s := course.due_s()) is not None:
            course.stopped.wait(max(0.0, due_s - time.perf_counter()))
            kind = random.choice(list(mixed.kinds))
            records.append(_record(kind, mixed.kinds[kind], due_s))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    while os.read(sys.stdin.fileno(), 1):
        pass
    course.stopped.set()
    for thread in threads:
        thread.join()
    (folder / "records").write_text("".join(f"{json.dumps(record)}\n" for record in records))


if __name__ == "__main__":
    main()
