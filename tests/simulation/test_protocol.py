"""The whole commit protocol under faults: real agent, reader, ledgers, group commits, transactions and producer over a
simulated cluster in virtual time (`tests/support/simulated`). One seed is one run: workload, workers, faults, network.

    pytest tests/simulation --sim-seed 4711          one seed, with all that the code logs in its trace
    pytest tests/simulation --sim-seeds 50000        many more
"""

import pytest

from simulated.run import World, simulate

CHUNKS = 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_every_interleaving_ends_in_a_clean_replay(
    delivery: str, chunk: int, request: pytest.FixtureRequest
) -> None:
    seed, seeds = request.config.getoption("--sim-seed"), request.config.getoption("--sim-seeds")
    if seed is not None:
        if chunk:
            pytest.skip("one seed only")
        chosen = [seed]
    else:
        chosen = list(range(chunk, seeds, CHUNKS))
    for number in chosen:
        outcome = simulate(number, delivery, verbose=seed is not None)
        if outcome.broken:
            pytest.fail(str(outcome), pytrace=False)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_worker_may_be_told_to_stop_at_any_moment(delivery: str) -> None:
    """While it connects, joins, recovers, works, rebalances: it ends in time, and its end is no failure."""
    for step in range(40):

        def script(world: World, at_s: float = 0.013 * step) -> None:
            world.start_worker()
            world.after(at_s, world.terminate)
            world.after(0.2, world.start_worker)

        outcome = simulate(step, delivery, script=script)
        assert not outcome.broken, str(outcome)


def test_a_seed_is_a_run() -> None:
    """The same seed does the same, to the last delay: what was found can be looked at again."""
    for delivery in ("at_least_once", "exactly_once"):
        once, again = simulate(11, delivery, verbose=True), simulate(11, delivery, verbose=True)
        assert once.trace == again.trace and len(once.trace) > 5
        assert simulate(12, delivery, verbose=True).trace != once.trace


def test_the_runs_are_no_walk_in_the_park() -> None:
    """Work is repeated, partitions change hands, connections are given up: else nothing would be proved."""
    outcomes = [simulate(seed, "at_least_once") for seed in range(80)]
    said = "\n".join(line for outcome in outcomes for line in outcome.trace)
    assert sum(outcome.repeats > 0 for outcome in outcomes) > 2
    for fault in ("killed", "stands still", "told to stop", "expired", "refuses", "no broker", "cut off"):
        assert said.count(fault) >= 3, fault
    assert sum("generation 3" in str(outcome) for outcome in outcomes) > 10
