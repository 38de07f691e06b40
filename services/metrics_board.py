"""Where the processes of an application tell each other their figures, so that any gateway answers for all of them.

The board is Ray's own key-value store, in the head node: there is nothing to configure, and it reaches every node. Each
process writes its figures there once a second, if they changed. One that has said nothing for a while is taken for
dead: the first to see it takes its entry away, and adds what it had counted to its own, so that counts never fall and
the board holds no more entries than there are processes. One that was not dead after all finds its entry gone, and
from then on tells only what it counted since.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Protocol

import orjson

from services.metrics import Samples

logger = logging.getLogger("ray.serve")

TELL_S = 1.0
HEARTBEAT_S = 5.0
DEAD_AFTER_S = 20.0


class Store(Protocol):
    """A key-value store that all processes share; called from threads."""

    def put(self, key: bytes, value: bytes) -> bool:
        """Whether there was a value already, which it replaces."""

    def get(self, key: bytes) -> bytes | None:
        """The value, if there is one."""

    def delete(self, key: bytes) -> bool:
        """Whether it was this call that took the value away."""

    def keys(self, prefix: bytes) -> list[bytes]:
        """Those that there are."""


class RayStore:
    """Ray's key-value store, in a namespace of ours."""

    _NAMESPACE = b"stn-metrics"

    def put(self, key: bytes, value: bytes) -> bool:
        from ray.experimental.internal_kv import _internal_kv_put as put

        return bool(put(key, value, namespace=self._NAMESPACE))

    def get(self, key: bytes) -> bytes | None:
        from ray.experimental.internal_kv import _internal_kv_get as get

        return get(key, namespace=self._NAMESPACE) or None

    def delete(self, key: bytes) -> bool:
        from ray.experimental.internal_kv import _internal_kv_del as delete

        return bool(delete(key, namespace=self._NAMESPACE) == 1)

    def keys(self, prefix: bytes) -> list[bytes]:
        from ray.experimental.internal_kv import _internal_kv_list as keys

        return list(keys(prefix, namespace=self._NAMESPACE))


class Board:
    """One process's place on the board; ``collect`` gathers its own figures, on the event loop."""

    def __init__(
        self, deployment: str, collect: Callable[[], Samples], store: Store | None = None, group: str = ""
    ) -> None:
        self._deployment, self._collect, self._store = deployment, collect, store
        self._prefix = f"{group}/".encode()
        self._key = self._prefix + token_hex(16).encode()
        self._inherited, self._taken = Samples(), Samples()
        self._told: Samples | None = None
        self._written = b""
        self._written_s = 0.0
        self._telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tells the others from now on, for as long as the event loop runs."""
        self._telling = asyncio.get_running_loop().create_task(self._tell_again_and_again())

    def own(self) -> Samples:
        """The figures of this process, with those that it took over."""
        samples = self._collect()
        samples.add(self._inherited)
        samples.add(self._taken, sign=-1)
        samples.put("processes", (self._deployment,), 1)
        return samples

    async def all(self) -> Samples:
        """The figures of all processes: of this one now, of the others as they told them last."""
        samples = self.own()
        if self._store is not None:
            for others in await asyncio.to_thread(self._read_others, self._store):
                samples.add(others)
        return samples

    def _read_others(self, store: Store) -> list[Samples]:
        found = []
        for key in store.keys(self._prefix):
            entry = None if key == self._key else store.get(key)
            if entry is not None:
                written_s, samples = _parsed(entry)
                found.append(samples if time.time() - written_s < DEAD_AFTER_S else samples.lasting())
        return found

    async def _tell_again_and_again(self) -> None:
        looked_s = time.monotonic()
        while True:
            try:
                await self.tell()
                if time.monotonic() - looked_s > DEAD_AFTER_S / 2:
                    looked_s = time.monotonic()
                    await self.take_over()
            except Exception as error:  # metrics are no reason to fail
                logger.warning("the metrics were not told to the other processes: %r", error)
            await asyncio.sleep(TELL_S)

    async def tell(self) -> None:
        """Writes this process's figures, if there is something new to tell."""
        if self._store is None:
            return
        samples = self.own()
        written, now_s = orjson.dumps(samples.listed()), time.time()
        if written == self._written and now_s - self._written_s < HEARTBEAT_S:
            return
        was_there = await asyncio.to_thread(self._store.put, self._key, orjson.dumps(now_s) + b"\n" + written)
        if not was_there and self._told is not None:  # taken for dead: another one tells of what was told by then
            self._taken.add(self._told.lasting())
            self._told, self._written = None, b""
            await self.tell()
            return
        self._told, self._written, self._written_s = samples, written, now_s

    def inherit(self, samples: Samples) -> None:
        """Counts what others had counted from now on: the dead, or a part of this process that is replaced."""
        self._inherited.add(samples.lasting())

    async def take_over(self) -> None:
        """Takes over what the dead had counted, and tells of it at once."""
        dead = [] if self._store is None else await asyncio.to_thread(self._remove_dead, self._store)
        for samples in dead:
            self.inherit(samples)
        if dead:
            await self.tell()

    def _remove_dead(self, store: Store) -> list[Samples]:
        found = []
        for key in store.keys(self._prefix):
            entry = None if key == self._key else store.get(key)
            if entry is not None:
                written_s, samples = _parsed(entry)
                if time.time() - written_s > DEAD_AFTER_S and store.delete(key):
                    found.append(samples)
        return found


def _parsed(entry: bytes) -> tuple[float, Samples]:
    """When an entry was written, and its figures: none where it cannot be read."""
    with suppress(ValueError, TypeError, KeyError):
        written_s, _, listed = entry.partition(b"\n")
        return float(orjson.loads(written_s)), Samples.of_list(orjson.loads(listed))
    return 0.0, Samples()
