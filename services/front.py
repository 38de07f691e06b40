"""HAProxy as a front that is hard to lose: killed, it is back at once; and it outlives Ray's manager of it.

Ray keeps one actor that writes HAProxy's config and starts it anew for each change. By itself it would notice a dead
HAProxy by its third missed check, begin again with a process of its own, and have it answer 404 until it has heard what
there is to serve. Here the same process starts HAProxy again with the config that it had; and where the manager died, a
new one takes over the HAProxy that is there, which serves on meanwhile. Its configuration has rules of ours beside
Ray's (``services.front_refusals``).

Ray is told of it in its controller, by ``RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH``.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray.serve._private import haproxy
from ray.serve._private.common import RequestProtocol

from services.front_refusals import with_refusals

_POLL_S = 0.2


class LastingHAProxy(haproxy.HAProxyApi):  # type: ignore[misc]  # Ray has no types
    """Starts HAProxy, watches it, and starts it again where it died and was not asked to; has it refuse by itself."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._turn = asyncio.Lock()  # one process at a time begins: two would want one port

    async def start(self) -> None:
        pid = await self._get_running_pid()
        if pid is None or not self._is_our_haproxy(pid):
            await super().start()
        else:  # a manager that died left it; it knows what there is to serve, and the next change replaces it as ever
            self._proc = _Left(pid, self._is_our_haproxy)

    def _generate_config_file_internal(self) -> None:
        super()._generate_config_file_internal()
        path = Path(self.config_file_path)
        servers = {
            backend.name: [server.name for server in backend.servers]
            for backend in self.backend_configs.values()
            if backend.protocol == RequestProtocol.HTTP
        }
        path.write_text(with_refusals(path.read_text(), servers))

    async def stop(self) -> None:
        self._stopped = True
        await super().stop()

    async def _start_and_wait_for_haproxy(self, *arguments: str, **options: Any) -> Any:
        process = await super()._start_and_wait_for_haproxy(*arguments, **options)
        self._watching = asyncio.create_task(self._watch(process))
        return process

    async def _graceful_reload(self) -> None:
        async with self._turn:
            try:
                await super()._graceful_reload()
            except Exception:
                # The new one may have died before it was known, when the old one had already gone for it.
                if await self._get_running_pid() is not None:
                    raise
                await self._begin_again()

    async def _watch(self, process: Any) -> None:
        if await process.wait() in (0, -signal.SIGTERM, -signal.SIGINT):  # as it was asked to
            return
        async with self._turn:
            if self._proc is process and not getattr(self, "_stopped", False):
                self._retire_log_files(process)
                await self._begin_again()

    async def _begin_again(self) -> None:
        haproxy.logger.warning("HAProxy died; it is started again.")
        self._proc = await self._start_and_wait_for_haproxy()


class _Left:
    """A process that is not our child, with what ``HAProxyApi`` asks of one that is."""

    _stdout_path = _stderr_path = ""

    def __init__(self, pid: int, is_ours: Any) -> None:
        self.pid, self._is_ours = pid, is_ours

    @property
    def returncode(self) -> int | None:
        return None if self._is_ours(self.pid) else 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        while self.returncode is None:
            await asyncio.sleep(_POLL_S)
        return 0


class Front(haproxy.HAProxyManager.__ray_metadata__.modified_class):  # type: ignore[misc]  # what Ray made an actor of
    """Ray's manager of HAProxy, with ``LastingHAProxy``."""

    def __init__(self, *given: Any, **named: Any) -> None:
        haproxy.HAProxyApi = LastingHAProxy  # in this process, which has no other use for it
        super().__init__(*given, **named)


def keep_front() -> None:
    """Has the controller, in whose process this is called, start ``Front`` in place of Ray's manager."""
    from ray.serve._private import controller

    controller.HAProxyManager = ray.remote(num_cpus=0)(Front)
