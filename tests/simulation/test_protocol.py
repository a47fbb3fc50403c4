"""The whole commit protocol under faults: real agent, reader, ledgers, group commits, transactions and producer over a
simulated cluster in virtual time (`tests/support/simulated`). One seed is one run: workload, workers, faults, network.

    pytest tests/simulation --sim-seed 4711          one seed, with all that the code logs in its trace
    pytest tests/simulation --sim-seeds 50000        many more
"""

import pytest

from simulated.run import simulate

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
