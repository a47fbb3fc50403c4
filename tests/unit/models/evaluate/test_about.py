"""What a catalogue says as parts of the calibrated blend: the formulas, what is unknown, and that it helps."""

import numpy as np
import pytest

from models.evaluate.about import NAMES, About
from models.evaluate.blended import Blended
from models.evaluate.layer import Layer
from models.evaluate.prequential import Judge, Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.reranked import Reranked
from models.evaluate.served import ServedSettings
from models.taste import actions

ITEMS, TOPICS = 60, 6
TITLES = tuple(f"i{n}" for n in range(ITEMS))


def about(seed: int = 1) -> About:
    """Item n is of topic n % TOPICS; years are of no use."""
    rng = np.random.default_rng(seed)
    topics = np.eye(TOPICS, dtype=np.float32)[np.arange(ITEMS) % TOPICS]
    return About(topics, rng.integers(1950, 2000, ITEMS).astype(np.float32))


def test_parts_equal_their_formulas() -> None:
    rng = np.random.default_rng(2)
    topics = rng.random((9, 4)).astype(np.float32)
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    topics[4] = 0
    years = np.array([1990, 1991, np.nan, 1980, 1995, 1970, 1999, 1990, np.nan], np.float32)
    history = np.array([8, 0, 3, 4, 2, 5, 1, 6], np.int32)
    found = About(topics, years).scores(history)
    assert found.shape == (len(NAMES), 9)
    weights = [0.85**nth for nth in range(8)][::-1]
    recent = history.tolist()
    near = [item for item in recent[-5:] if not np.isnan(years[item])]
    assert near == [4, 5, 1, 6]
    for item in range(9):
        likeness = sum(w * float(topics[j] @ topics[item]) for w, j in zip(weights, recent, strict=True))
        assert found[0, item] == pytest.approx(likeness / sum(weights), abs=1e-6)
        assert found[1, item] == pytest.approx(float(topics[6] @ topics[item]), abs=1e-6)
        if np.isnan(years[item]):
            assert found[2, item] == 0
        else:
            apart = [abs(float(years[item] - years[j])) for j in near]
            assert found[2, item] == pytest.approx(np.mean(np.exp(-np.array(apart) / 3)), abs=1e-6)


def test_only_the_latest_thirty_items_count() -> None:
    what = about()
    history = np.array([1] * 10 + [0] * 30, np.int32)
    np.testing.assert_array_equal(what.scores(history)[0], what.scores(history[10:])[0])
    assert what.scores(history[9:39])[0, 1] > 0


def test_nothing_is_said_of_newcomers_and_of_what_is_unknown() -> None:
    nothing = About(np.zeros((3, 2), np.float32), np.full(3, np.nan, np.float32))
    assert not about().scores(np.empty(0, np.int32)).any()
    assert not nothing.scores(np.array([0, 1], np.int32)).any()
    with pytest.raises(ValueError, match="3 items and years of 2"):
        About(np.zeros((3, 2), np.float32), np.zeros(2, np.float32))


def recording(events: int = 260) -> Recording:
    """Readers stay with one topic; which of its items comes next is chance, so counts know little."""
    rng = np.random.default_rng(3)
    users = rng.integers(0, 60, events)
    items = (users % TOPICS) + TOPICS * rng.integers(0, ITEMS // TOPICS, events)
    return Recording(
        users, items, 1_700_000_000_000 + 1000 * np.arange(events),
        np.full(events, actions.CODES["click"], np.int8), np.ones(events, np.float32), TITLES,
    )  # fmt: skip


def hits(layer: Layer, row: str) -> float:
    what = recording()
    todo = plan(what, "all", share=0.3)
    found = Run(what, todo, [layer]).score(Judge([layer], layer.rows, 10, np.ones((ITEMS, 1), np.float32)))
    return float((found.ranks[layer.rows.index(row)] <= 10).mean())


def test_the_blend_learns_what_topics_are_worth() -> None:
    without = hits(Blended(TITLES, ServedSettings(), False), "blend-online")
    known = hits(Blended(TITLES, ServedSettings(), False, about()), "blend-online")
    assert known > without + 0.1
    shuffled = about()
    shuffled._topics = np.random.default_rng(4).permutation(shuffled._topics)
    assert hits(Blended(TITLES, ServedSettings(), False, shuffled), "blend-online") < known - 0.1


def test_the_network_chooses_from_what_the_blend_with_topics_found() -> None:
    assert hits(Reranked(TITLES, ServedSettings(), False, about=about()), "reranked") > 0.85
