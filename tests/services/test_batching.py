"""The micro-batcher: what shares a batch, how large one gets, and whom a failure reaches."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batching import Columns, MicroBatcher
from services.settings import StageSettings
from stn_core.errors import BadTensor, Overloaded, StnError


def stage(**changes: Any) -> StageSettings:
    return StageSettings(**{"max_batch_images": 8, "batch_wait_ms": 0.0, "max_in_flight_batches": 2, **changes})


class Doubler:
    """A run function that notes every batch it gets, and can be held up or made to fail."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[tuple[Any, np.ndarray]] = []
        self.running = 0
        self.most_running = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Callable[[np.ndarray], Exception | None] = lambda _: None

    async def __call__(self, operation: Any, columns: Columns) -> Columns:
        x = columns["x"]
        self.batches.append((operation, x.copy()))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(self.seconds)
            error = self.fails(x)
            if error is not None:
                raise error
            return {"y": x * 2, "n": np.arange(len(x))}
        finally:
            self.running -= 1

    @property
    def sizes(self) -> list[int]:
        return [len(x) for _, x in self.batches]


def request(first: int, count: int) -> Columns:
    return {"x": np.arange(first, first + count, dtype=np.int64).reshape(count, 1)}


def waiting(batcher: MicroBatcher) -> int:
    """The images that wait for a batch, which nothing but a test asks."""
    return batcher.queued_images


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_requests_of_one_turn_share_a_batch_and_get_their_own_results() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage())
    results = await asyncio.gather(*(batcher.submit("op", request(10 * i, i)) for i in (1, 2, 3)))
    assert run.sizes == [6]
    for i, result in zip((1, 2, 3), results, strict=True):
        np.testing.assert_array_equal(result["y"], request(10 * i, i)["x"] * 2)


async def test_a_batch_never_exceeds_the_budget() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage())
    await asyncio.gather(*(batcher.submit("op", request(0, 5)) for _ in range(6)))
    assert max(run.sizes) <= 8
    assert sum(run.sizes) == 30


async def test_a_request_larger_than_a_batch_is_split_and_rejoined_in_order() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage())
    result = await batcher.submit("op", request(0, 29))
    np.testing.assert_array_equal(result["y"], request(0, 29)["x"] * 2)
    assert sorted(run.sizes) == [5, 8, 8, 8]


async def test_a_large_request_takes_turns_with_small_ones() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(max_in_flight_batches=1))
    tasks = [asyncio.create_task(batcher.submit("op", request(first, count))) for first, count in ((0, 32), (50, 3))]
    await settle()
    run.gate.set()
    large, small = await asyncio.gather(*tasks)
    assert [int(x[0, 0]) for _, x in run.batches] == [0, 50, 8, 16, 24]
    np.testing.assert_array_equal(large["y"], request(0, 32)["x"] * 2)
    np.testing.assert_array_equal(small["y"], request(50, 3)["x"] * 2)


async def test_the_byte_budget_bounds_a_batch_as_well() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage(max_batch_bytes=3 * 8))
    result = await batcher.submit("op", request(0, 7))
    np.testing.assert_array_equal(result["y"], request(0, 7)["x"] * 2)
    assert sorted(run.sizes) == [1, 3, 3]


async def test_images_that_grow_are_measured_by_what_comes_out() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(max_batch_bytes=100, max_queued_bytes=500, max_in_flight_batches=1))
    tasks = [asyncio.create_task(batcher.submit("op", request(0, 5), result_bytes=50))]
    await settle()
    with pytest.raises(Overloaded, match="500 bytes"):
        await batcher.submit("op", request(0, 8), result_bytes=50)
    run.gate.set()
    await asyncio.gather(*tasks)
    assert run.sizes == [2, 2, 1]


async def test_an_image_larger_than_the_byte_budget_runs_alone() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage(max_batch_bytes=1))
    await asyncio.gather(*(batcher.submit("op", request(0, 1)) for _ in range(3)))
    assert run.sizes == [1, 1, 1]


async def test_only_equal_operations_shapes_and_datatypes_share_a_batch() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage(max_in_flight_batches=9))
    kinds = [("a", np.int64, 1), ("a", np.int64, 1), ("b", np.int64, 1), ("a", np.float32, 1), ("a", np.int64, 2)]
    await asyncio.gather(*(batcher.submit(op, {"x": np.ones((2, width), dtype)}) for op, dtype, width in kinds))
    assert sorted(run.sizes) == [2, 2, 2, 4]


async def test_batches_grow_while_all_slots_are_taken_and_slots_are_bounded() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(max_in_flight_batches=2))
    tasks = []
    for i in range(10):
        tasks.append(asyncio.create_task(batcher.submit("op", request(i, 1))))
        await settle()
    assert run.sizes == [1, 1]
    run.gate.set()
    await asyncio.gather(*tasks)
    assert run.sizes == [1, 1, 8]
    assert run.most_running == 2


async def test_the_wait_gathers_requests_of_several_turns_and_a_full_batch_does_not_wait() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(batch_wait_ms=600_000.0, max_in_flight_batches=9))
    tasks = []
    for i in range(9):  # the first finds nothing under way, and does not wait
        tasks.append(asyncio.create_task(batcher.submit("op", request(i, 1))))
        await settle()
    assert run.sizes == [1, 8]
    run.gate.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)


async def test_beside_a_batch_under_way_one_that_does_not_fill_waits_its_time_and_runs() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(batch_wait_ms=200.0))
    first = asyncio.create_task(batcher.submit("op", request(0, 1)))
    await settle()
    started_s = asyncio.get_running_loop().time()
    second = asyncio.create_task(batcher.submit("op", request(1, 1)))
    while len(run.sizes) < 2:
        await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - started_s >= 0.2
    run.gate.set()
    await asyncio.gather(first, second)


async def test_nothing_waits_once_nothing_is_under_way_any_more() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(batch_wait_ms=600_000.0))
    tasks = [asyncio.create_task(batcher.submit("op", request(0, 1)))]
    await settle()
    tasks += [asyncio.create_task(batcher.submit("op", request(i, 1))) for i in (1, 2)]
    await settle()
    assert run.sizes == [1]
    run.gate.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert run.sizes == [1, 2]


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(max_in_flight_batches=1, max_queued_images=10))
    tasks = [asyncio.create_task(batcher.submit("op", request(0, 8)))]
    await settle()
    tasks.append(asyncio.create_task(batcher.submit("op", request(0, 10))))
    await settle()
    with pytest.raises(Overloaded, match="10 images wait already") as caught:
        await batcher.submit("op", request(0, 1))
    assert 0 < caught.value.retry_after_s <= 10
    run.gate.set()
    await asyncio.gather(*tasks)
    assert waiting(batcher) == 0
    await batcher.submit("op", request(0, 1))


async def test_the_queue_is_bounded_in_bytes_too() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(max_in_flight_batches=1, max_queued_bytes=10 * 8))
    tasks = [asyncio.create_task(batcher.submit("op", request(0, 8)))]
    await settle()
    tasks.append(asyncio.create_task(batcher.submit("op", request(0, 9))))
    await settle()
    with pytest.raises(Overloaded, match="80 bytes"):
        await batcher.submit("op", request(0, 2))
    run.gate.set()
    await asyncio.gather(*tasks)


async def test_an_error_reaches_its_batch_alone_and_the_batcher_goes_on() -> None:
    run = Doubler()
    run.fails = lambda x: BadTensor("seven") if (x == 7).any() else None
    batcher = MicroBatcher(run, stage(max_batch_images=4))
    results = await asyncio.gather(*(batcher.submit("op", request(i, 1)) for i in range(12)), return_exceptions=True)
    failed = [i for i, result in enumerate(results) if isinstance(result, BadTensor)]
    assert failed == [4, 5, 6, 7]
    assert results[6] is not results[7]
    assert (await batcher.submit("op", request(1, 1)))["y"][0, 0] == 2


async def test_a_failed_slice_fails_its_request_and_frees_the_rest_of_it() -> None:
    run = Doubler()
    run.fails = lambda x: ValueError("no") if (x == 3).any() else None
    batcher = MicroBatcher(run, stage(max_in_flight_batches=1))
    with pytest.raises(ValueError, match="no"):
        await batcher.submit("op", request(0, 80))
    await settle()
    assert waiting(batcher) == 0
    assert run.sizes == [8]


async def test_a_cancelled_request_is_dropped_before_it_runs_and_frees_its_room() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage(max_in_flight_batches=1))
    first = asyncio.create_task(batcher.submit("op", request(0, 1)))
    await settle()
    gone, kept = (asyncio.create_task(batcher.submit("op", request(i, 2))) for i in (100, 200))
    await settle()
    assert waiting(batcher) == 4
    gone.cancel()
    await settle()
    assert waiting(batcher) == 2
    run.gate.set()
    await asyncio.gather(first, kept)
    assert [x[:, 0].tolist() for _, x in run.batches] == [[0], [200, 201]]


async def test_cancelling_one_request_of_a_running_batch_leaves_its_neighbours_alone() -> None:
    run = Doubler()
    run.gate.clear()
    batcher = MicroBatcher(run, stage())
    gone, kept = (asyncio.create_task(batcher.submit("op", request(i, 2))) for i in (100, 200))
    await settle()
    gone.cancel()
    run.gate.set()
    np.testing.assert_array_equal((await kept)["y"][:, 0], [400, 402])
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_cancelling_in_the_turn_in_which_batches_are_formed() -> None:
    run = Doubler()
    batcher = MicroBatcher(run, stage())
    gone = asyncio.create_task(batcher.submit("op", request(0, 3)))
    kept = asyncio.create_task(batcher.submit("op", request(5, 1)))
    await asyncio.sleep(0)  # both are queued; the batch is formed in the next turn
    gone.cancel()
    assert (await kept)["y"][0, 0] == 10
    assert run.sizes == [1]
    assert waiting(batcher) == 0


async def test_a_run_function_that_loses_rows_is_an_error_not_a_mix_up() -> None:
    async def lose(_: Any, columns: Columns) -> Columns:
        return {"y": columns["x"][1:]}

    batcher = MicroBatcher(lose, stage())
    with pytest.raises(StnError, match="a batch of 2 images gave"):
        await batcher.submit("op", request(0, 2))


@pytest.mark.parametrize("columns", [{"x": np.zeros((0, 1))}, {"x": np.zeros((2, 1)), "z": np.zeros((3, 1))}, {}])
async def test_columns_without_a_common_side_are_refused(columns: Columns) -> None:
    with pytest.raises(ValueError, match="share a leading dimension"):
        await MicroBatcher(Doubler(), stage()).submit("op", columns)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    max_batch_images=st.integers(1, 16),
    max_in_flight=st.integers(1, 4),
    batch_wait_ms=st.sampled_from([0.0, 0.5]),
    kinds=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_any_traffic_comes_back_right_or_not_at_all(
    counts: list[int], max_batch_images: int, max_in_flight: int, batch_wait_ms: float, kinds: int, seed: int
) -> None:
    """Requests of random sizes and kinds, some cancelled, some failing: every answer is its own request's."""

    async def traffic() -> None:
        chance = random.Random(seed)
        run = Doubler()
        poison = 10_000 * chance.randrange(len(counts))
        run.fails = lambda x: StnError("poison") if (x == poison).any() else None
        limits = stage(
            max_batch_images=max_batch_images, max_in_flight_batches=max_in_flight, batch_wait_ms=batch_wait_ms
        )
        batcher = MicroBatcher(run, limits)
        tasks = []
        for i, count in enumerate(counts):
            tasks.append(asyncio.create_task(batcher.submit(i % kinds, request(10_000 * i, count))))
            if chance.random() < 0.3:
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                chance.choice(tasks).cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        for i, (count, result) in enumerate(zip(counts, results, strict=True)):
            if isinstance(result, BaseException):
                assert isinstance(result, StnError | asyncio.CancelledError)
            else:
                np.testing.assert_array_equal(result["y"], request(10_000 * i, count)["x"] * 2)
        assert max(run.sizes, default=0) <= max_batch_images
        assert run.most_running <= max_in_flight
        assert all(len({value // 10_000 % kinds for value in x[:, 0]}) == 1 for _, x in run.batches)
        assert waiting(batcher) == 0
        assert (await batcher.submit(0, request(1, 1)))["y"][0, 0] == 2

    asyncio.run(traffic())
