"""A plain FastAPI server: one process, raw pixels in, raw labels and probabilities out, a run for each request.

python peers_fastapi.py PORT    in the peers' environment, with the graph's path in FUSED
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from peers_model import Model, answer, images_in

app = FastAPI()
model = Model()


@app.get("/health")
async def health() -> Response:
    return Response()


@app.post("/predict")
async def predict(request: Request) -> Response:
    # On the event loop: a thread would cost more than the model does.
    return Response(answer(*model(images_in(await request.body()))), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
