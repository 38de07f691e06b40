"""What makes a replica of Ray Serve observable: its log of requests, its traces, its place on the board of metrics."""

from collections.abc import Callable
from pathlib import Path

from ray import serve
from ray.serve._private.logging_utils import get_serve_logs_dir

from services.metrics import Samples
from services.metrics_board import Board, RayStore
from services.request_log import write_to
from services.settings import Observability
from services.tracing import start_tracing


def observe(settings: Observability) -> None:
    """Has this replica log and trace as the settings say."""
    folder, replica = settings.log_folder, serve.get_replica_context().replica_id.unique_id
    path = Path(get_serve_logs_dir() if folder is None else folder)
    path.mkdir(parents=True, exist_ok=True)
    write_to(path, replica)
    start_tracing(settings, path, replica)


def board(collect: Callable[[], Samples]) -> Board:
    """The place of this replica on the board of its application, where it tells what ``collect`` gathers."""
    context = serve.get_replica_context()
    place = Board(context.deployment, collect, RayStore(), context.app_name)
    place.start()
    return place
