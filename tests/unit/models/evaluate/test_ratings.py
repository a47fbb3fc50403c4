"""Errors of estimated ratings: against the formula with readers x readers, event by event, and by hand."""

import numpy as np
import pytest

from made_up_clicks import random_pairs, recording
from models.evaluate.ratings import NAMES, rating_errors
from models.evaluate.recording import Recording
from models.taste import actions


def rated(pairs: list[tuple[str, str]], ratings: list[float]) -> Recording:
    plain = recording(pairs)
    codes = np.full(len(pairs), actions.CODES["click"], np.int8)
    return Recording(
        plain.users,
        plain.items,
        plain.at_ms,
        codes,
        plain.weights,
        plain.item_names,
        np.array(ratings, np.float32),
    )


def by_formula(table: np.ndarray, me: int, item: int, nearest: int) -> list[float]:
    """The estimates from readers x items (0: not rated), as the formulas are written."""
    given, column = table[table > 0], table[:, item]
    length = np.sqrt((table**2).sum(axis=1))
    both = length * length[me]
    similar = np.divide(table @ table[me], both, out=np.zeros(len(table)), where=both > 0)
    has = column > 0
    best = [v for v in np.argsort(-similar, kind="stable") if has[v] and similar[v] > 0 and v != me][:nearest]

    def mean(total: float, count: float) -> float:
        return total / count if count > 0 else float("nan")

    return [
        mean(given.sum(), len(given)),
        mean(column.sum(), has.sum()),
        mean(similar @ column, similar.sum()),
        mean(similar @ column, similar[has].sum()),
        mean(similar[best] @ column[best], similar[best].sum()),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_errors_equal_those_of_the_formula(seed: int) -> None:
    pairs = list(dict.fromkeys(random_pairs(seed, 90, users=12, items=14)))
    rng = np.random.default_rng(seed)
    stars = rng.integers(1, 11, len(pairs)) / 2
    one = rated(pairs, stars.tolist())
    asked = np.arange(len(one)) >= 10
    table = np.zeros((12, 14))
    errors, answered = [], []
    for number in range(len(one)):
        user, item = int(one.users[number]), int(one.items[number])
        if asked[number]:
            found = np.array(by_formula(table, user, item, nearest=12))
            answered.append(~np.isnan(found))
            errors.append(np.where(np.isnan(found), found[0], found) - stars[number])
        table[user, item] = stars[number]

    rows = rating_errors(one, asked, ring=64, nearest=12)
    assert [row.name for row in rows] == list(NAMES)
    assert [row.rmse for row in rows] == pytest.approx(
        np.sqrt(np.mean(np.square(errors), axis=0)).tolist(), abs=1e-6
    )
    assert [row.answered for row in rows] == pytest.approx(np.mean(answered, axis=0).tolist())


def test_by_hand() -> None:
    """a and b both gave x 4; a gave y 2: whoever answers for b and y says 2, but for `by all`."""
    one = rated([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")], [4, 2, 4, 3])
    rows = {row.name: row for row in rating_errors(one, np.array([False, False, False, True]), 64, 5)}

    assert rows["mean"].rmse == pytest.approx(abs((4 + 2 + 4) / 3 - 3))
    assert rows["item-mean"].rmse == rows["user-nearest"].rmse == 1
    assert rows["user-cosine by raters"].rmse == pytest.approx(1)
    similar = 4 / np.sqrt(20)
    assert rows["user-cosine by all"].rmse == pytest.approx(3 - similar * 2 / (1 + similar))
    assert {row.answered for row in rows.values()} == {1.0}


def test_nothing_asked_is_no_error_and_no_ratings_is_one() -> None:
    one = rated([("a", "x")], [4])
    assert all(np.isnan(row.rmse) for row in rating_errors(one, np.array([False]), 64, 5))
    with pytest.raises(ValueError, match="no ratings"):
        rating_errors(recording([("a", "x")]), np.array([True]), 64, 5)
