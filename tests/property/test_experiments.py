"""Arms are stable and of the shares they say; interleaved lists are fair, whatever the two lists are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.experiments.arms import Experiment, assign, place
from models.experiments.interleave import NO_TEAM, team_draft
from models.experiments.preference import preference

USERS = [f"reader-{n}" for n in range(4000)]
weights = st.lists(st.sampled_from([0.1, 0.5, 1.0, 2.0, 7.0]), min_size=2, max_size=6)
salts = st.text(max_size=8)


def experiment(salt: str, given_weights: list[float], share: float = 1.0) -> Experiment:
    return Experiment(
        "e", salt, tuple(f"a{n}" for n in range(len(given_weights))), tuple(given_weights), share
    )


@settings(max_examples=40, deadline=None)
@given(salts, weights, st.floats(0.05, 1.0))
def test_arms_hold_their_shares(salt: str, given_weights: list[float], share: float) -> None:
    found = assign(experiment(salt, given_weights, share), USERS)

    total = sum(given_weights)
    for arm, weight in enumerate(given_weights):
        wanted = share * weight / total
        spread = np.sqrt(len(USERS) * wanted * (1 - wanted))
        assert abs(np.count_nonzero(found == arm) - len(USERS) * wanted) <= 5 * spread + 1


@settings(max_examples=40, deadline=None)
@given(salts, weights, st.data())
def test_when_an_arm_grows_readers_move_into_it_and_nowhere_else(
    salt: str, given_weights: list[float], data: st.DataObject
) -> None:
    grown = data.draw(st.integers(0, len(given_weights) - 1))
    larger = [weight * 3 if arm == grown else weight for arm, weight in enumerate(given_weights)]
    before, after = (assign(experiment(salt, one), USERS) for one in (given_weights, larger))

    moved = before != after
    assert (after[moved] == grown).all() and moved.any()
    assert (after[before == grown] == grown).all()
    more = assign(experiment(salt, [*given_weights, 1.0]), USERS)
    assert (more[more != before] == len(given_weights)).all()


@settings(max_examples=20, deadline=None)
@given(salts, st.floats(0.1, 0.5), st.floats(0.5, 0.9))
def test_a_larger_share_keeps_the_readers_of_a_smaller_one(salt: str, small: float, large: float) -> None:
    before, after = (assign(experiment(salt, [1, 1], share), USERS) for share in (small, large))
    kept = before >= 0
    assert (after[kept] == before[kept]).all()


def test_another_salt_draws_anew_and_a_reader_is_in_one_experiment() -> None:
    one, other = experiment("x", [1, 1], 0.5), experiment("y", [1, 1], 0.5)
    apart = np.mean(assign(one, USERS) == assign(other, USERS))
    assert 0.3 < apart < 0.45  # 3/8 by chance: both out, or both in and in the same arm

    which, arms = place((one, other), USERS)
    first = assign(one, USERS)
    assert (which[first >= 0] == 0).all() and (arms[first >= 0] == first[first >= 0]).all()
    second = which == 1
    assert (first[second] < 0).all() and abs(np.mean(second) - 0.25) < 0.035
    assert abs(np.mean(arms[second]) - 0.5) < 0.08  # fair within what the first has left
    assert (place((), USERS)[0] == -1).all()


lists = st.lists(st.integers(0, 12), max_size=8, unique=True)


@settings(max_examples=300, deadline=None)
@given(lists, lists, st.floats(0, 1, exclude_max=True), st.integers(1, 12))
def test_each_captain_takes_the_best_that_is_left(
    first: list[int], second: list[int], number: float, k: int
) -> None:
    padded = [np.array([[*one, *[-1] * (8 - len(one))]], np.int32) for one in (first, second)]
    drafted = team_draft(padded[0], padded[1], np.array([number]), k)

    taken: list[int] = []
    sizes = [0, 0]
    places = zip(drafted.items[0], drafted.teams[0], drafted.origins[0], drafted.places[0], strict=True)
    for item, team, origin, at in places:
        left = [[one for one in source if one not in taken] for source in (first, second)]
        if not left[0] and not left[1]:
            assert item == -1 and team == NO_TEAM and origin == -1
            continue
        assert item == left[origin][0] == (first, second)[origin][at]
        if left[0] and left[1]:
            assert team == origin and sizes[team] <= sizes[1 - team]
            sizes[team] += 1
        else:
            assert team == NO_TEAM
        taken.append(int(item))
    assert len(taken) == min(k, len(set(first) | set(second)))
    assert abs(sizes[0] - sizes[1]) <= 1


def test_a_reader_who_clicks_at_random_prefers_neither_list() -> None:
    rng = np.random.default_rng(5)
    readers, k = 20_000, 6
    first = np.tile(np.arange(6, dtype=np.int32), (readers, 1))
    second = np.tile(np.array([9, 1, 0, 8, 7, 3], np.int32), (readers, 1))
    drafted = team_draft(first, second, rng.random(readers), k)

    for place_of in range(k):  # each place is each list's equally often
        assert abs(np.mean(drafted.teams[:, place_of]) - 0.5) < 0.02
    again = team_draft(first[:5], second[:5], np.full(5, 0.25), k)
    assert (again.items == again.items[0]).all()
    rounds = drafted.teams[:, ::2]
    assert abs(np.mean(rounds[:, 0] == rounds[:, 1]) - 0.5) < 0.02  # a new coin every round


def test_a_reader_who_wants_what_one_list_has_is_seen_to_prefer_it() -> None:
    readers = 300
    first = np.tile(np.arange(6, dtype=np.int32), (readers, 1))
    second = np.tile(np.arange(20, 26, dtype=np.int32), (readers, 1))
    drafted = team_draft(first, second, np.random.default_rng(1).random(readers), 6)
    clicked = drafted.items == 21
    points = np.stack([(clicked & (drafted.teams == team)).sum(axis=1) for team in (0, 1)], axis=1)
    found = preference(np.arange(readers), points)

    assert (found.first, found.ties, found.second) == (0, 0, readers) and found.value == -0.5
    assert found.decided and found.high < 0
