"""The routes for those who run the service: its metrics, and whether it lives and is ready."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from services.metrics import exposition
from services.metrics_board import Board
from services.pipelines import Pipelines
from services.routes import ApiRoute, json_answer
from stn_core.errors import Unavailable


async def check_ready(pipelines: Pipelines, stages: tuple[str, ...] | None = None) -> None:
    """Unavailable, with their names, if some of ``stages`` (all when None) are not loaded and warm."""
    unready = await pipelines.unready_stages(stages)
    if unready:
        raise Unavailable(f"not ready: the {' and the '.join(unready)} did not say that it is warm; try again soon")


class Operations:
    """Answers them; ``board`` knows the figures of all processes."""

    def __init__(self, pipelines: Pipelines, board: Board) -> None:
        self._pipelines, self._board = pipelines, board

    def routes(self) -> list[ApiRoute]:
        unready = (Unavailable,)
        return [
            ApiRoute("GET", "/metrics", self.metrics, "Operations", "Figures for Prometheus", "Metrics"),
            *(
                ApiRoute("GET", path, self.live, "Health", "Whether the process answers", "Live")
                for path in ("/v2/health/live", "/healthz")
            ),
            *(
                ApiRoute("GET", path, self.ready, "Health", "Whether all is warm", "Ready", unready)
                for path in ("/v2/health/ready", "/readyz")
            ),
        ]

    async def metrics(self, request: Request) -> Response:
        samples = await self._board.all()
        text, media_type = await asyncio.to_thread(exposition, samples, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type})

    async def live(self, request: Request) -> Response:
        return json_answer({"live": True})

    async def ready(self, request: Request) -> Response:
        await check_ready(self._pipelines)
        # Anybody may ask this; why is told in the metadata, to those who have a key where one is asked for.
        return json_answer({"ready": True} if self._pipelines.refused is None else {"ready": True, "refused": True})
