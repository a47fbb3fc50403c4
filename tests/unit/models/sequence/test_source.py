"""The source of a list's scores: what the ring says, whoever came before, whichever way the rows moved."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sequence import attention, folder, recurrence
from models.sequence.folder import Loaded
from models.sequence.model import F32, I32, scores
from models.sequence.source import SequenceSource
from models.taste import actions
from models.taste.index import ItemIndex, hash_of
from models.taste.readers.users import UserRows

NAMES = [f"i{number}" for number in range(12)]
KNOWN = NAMES[:9]  # to the model
CLICK, SKIP = actions.CODES["click"], actions.CODES["skip"]


def model(folder_: Path, kind: str = "recurrence", seed: int = 1) -> Loaded:
    shapes = {"recurrence": recurrence.shapes, "attention": attention.shapes}[kind](len(KNOWN))
    draw = np.random.default_rng(seed)
    tensors = {name: draw.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    # the vocabulary's order is not the index's
    folder.write(folder_, kind, tensors, np.array([hash_of(name) for name in KNOWN[::-1]], np.uint64))
    return folder.read(folder_)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loaded]:
    return {kind: model(tmp_path_factory.mktemp(kind), kind) for kind in folder.KINDS}


def rows_of(ring: int = 64) -> UserRows:
    users = UserRows(ItemIndex(dim=64), ring=ring)
    users.items.lookup(NAMES)
    return users


class Feeder:
    """Events into rows, one offset each."""

    def __init__(self, users: UserRows) -> None:
        self.users, self.offset = users, 0

    def take(self, user: str, *numbers: int, kind: int = CLICK) -> None:
        n = len(numbers)
        offsets = np.arange(self.offset, self.offset + n)
        self.offset += n
        self.users.fold(
            [user] * n,
            np.array(numbers, np.int32) + 1,
            np.full(n, kind, np.int8),
            np.ones(n, np.float32),
            1_000 * offsets,
            offsets,
        )


def by_hand(one: Loaded, history: list[int]) -> F32:
    """S of every name after these items, straight from the model and the last 64 events."""
    number = {name: place for place, name in enumerate(KNOWN[::-1])}
    held = [number[NAMES[item]] for item in history[-64:] if NAMES[item] in number]
    found = np.zeros(len(NAMES) + 1, np.float32)
    if held:
        logits = scores(one.model, one.model.replay(np.array([held], np.int32)))[0]
        chances = np.exp(logits - logits.max())
        found[[NAMES.index(name) + 1 for name in KNOWN[::-1]]] = chances
    return found


def all_rows(users: UserRows, *names: str) -> I32:
    return users.rows_of(list(names))


@pytest.mark.parametrize("kind", folder.KINDS)
def test_scores_are_the_models_whether_built_or_stepped(kind: str, loaded: dict[str, Loaded]) -> None:
    users = rows_of()
    feeder, source = Feeder(users), SequenceSource(users, loaded[kind])
    histories: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    draw = np.random.default_rng(2)
    for step in range(40):
        for name, history in histories.items():
            some = draw.integers(0, len(NAMES), 1 + step % 3).tolist()
            feeder.take(name, *some)
            history += some
        found = source.scores(users, all_rows(users, *histories), 0)
        expected = np.stack([by_hand(loaded[kind], history) for history in histories.values()])
        np.testing.assert_allclose(found, expected, atol=5e-3)
    if kind == "recurrence":
        assert source.states.rebuilt == 3
        assert source.states.stepped > 150
    assert source.states.bytes_used() <= (1024 + 24) * 64  # rows; of attention nothing is kept
    assert bool(source.states.bytes_used()) == (kind == "recurrence")


def test_only_what_speaks_for_an_item_is_a_step(loaded: dict[str, Loaded]) -> None:
    users = rows_of()
    feeder, source = Feeder(users), SequenceSource(users, loaded["recurrence"])
    feeder.take("a", 1, 2)
    feeder.take("a", 3, kind=SKIP)
    feeder.take("only skips", 3, kind=SKIP)
    feeder.take("strangers", 10, 11)
    found = source.scores(users, all_rows(users, "a", "only skips", "strangers", "nobody"), 0)
    np.testing.assert_allclose(found[0], by_hand(loaded["recurrence"], [1, 2]), atol=1e-4)
    assert found[0].max() == 1
    assert not found[0, [0, 10, 11, 12]].any()  # the unknown item, and those that the model never met
    assert not found[1:].any()


def test_a_new_model_never_reads_the_old_ones_states(loaded: dict[str, Loaded], tmp_path: Path) -> None:
    """Same kind, other kind and back, with and without events in between."""
    users = rows_of()
    feeder, source = Feeder(users), SequenceSource(users, loaded["recurrence"])
    other = model(tmp_path, "recurrence", seed=9)
    histories: dict[str, list[int]] = {"a": [], "b": []}
    draw = np.random.default_rng(3)
    previous = None
    for one in (loaded["recurrence"], other, loaded["attention"], other, loaded["recurrence"]):
        source.use(one)
        for name in histories:
            some = draw.integers(0, 9, 3).tolist() if one is not other else []
            feeder.take(name, *some)
            histories[name] += some
        found = source.scores(users, all_rows(users, "a", "b"), 0)
        expected = np.stack([by_hand(one, history) for history in histories.values()])
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert previous is None or np.abs(found - previous).max() > 0.01
        previous = found
    assert source.revision == loaded["recurrence"].manifest.revision


def test_rows_that_change_hands_and_items_that_come_later(loaded: dict[str, Loaded]) -> None:
    users = UserRows(ItemIndex(dim=64))
    users.items.lookup(NAMES[:3])
    feeder, source = Feeder(users), SequenceSource(users, loaded["recurrence"])
    feeder.take("a", 0, 1)
    row = users.rows_of(["a"])
    assert source.scores(users, row, 0).shape == (1, 4)
    users.forget("a")
    assert not source.states._states.any()  # who is forgotten leaves nothing
    users.items.lookup(NAMES)
    feeder.take("b", 2, 5)
    assert users.rows_of(["b"]).tolist() == row.tolist()
    np.testing.assert_allclose(
        source.scores(users, row, 0)[0], by_hand(loaded["recurrence"], [2, 5]), atol=1e-4
    )
    # a partition that was read back: the ring is the same, its slots are not
    feeder.take("b", *range(9), *range(9))
    before = source.scores(users, row, 0)
    value = users.encode(row)
    users.drop(0)
    users.load(["b"], value)
    np.testing.assert_allclose(source.scores(users, users.rows_of(["b"]), 0), before, atol=1e-5)


def test_a_ring_that_was_changed_behind_is_read_anew(loaded: dict[str, Loaded]) -> None:
    """As an undo does: an event in the middle goes, the later ones move up, and others may follow."""
    for more in (0, 1):
        users = rows_of()
        feeder, source = Feeder(users), SequenceSource(users, loaded["recurrence"])
        feeder.take("a", 1, 2, 3, 4)
        row = users.rows_of(["a"])
        source.scores(users, row, 0)
        for column in (users.ring_items, users.ring_at_ms, users.ring_kinds):
            column[row, 1:3] = column[row, 2:4]
        users.pushed[row] = 3
        feeder.take("a", *([7] * more))
        expected = by_hand(loaded["recurrence"], [1, 3, 4] + [7] * more)
        np.testing.assert_allclose(source.scores(users, row, 0)[0], expected, atol=1e-4)


@pytest.mark.parametrize("kind", folder.KINDS)
@settings(max_examples=20, deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), max_size=120),
    asks=st.sets(st.integers(0, 120), max_size=8),
    ring=st.sampled_from([3, 16, 64]),
)
def test_when_and_how_often_lists_are_asked_changes_nothing(
    kind: str, loaded: dict[str, Loaded], events: list[tuple[int, int]], asks: set[int], ring: int
) -> None:
    """Property: scores are those of a source that was never asked before."""
    users = rows_of(ring)
    feeder, source = Feeder(users), SequenceSource(users, loaded[kind])
    rows = users.rows_of(["0", "1", "2"])
    for nth, (user, item) in enumerate(events):
        feeder.take(str(user), item)
        if nth in asks:
            source.scores(users, rows[[user]], 0)
    fresh = SequenceSource(users, loaded[kind])
    np.testing.assert_allclose(source.scores(users, rows, 0), fresh.scores(users, rows, 0), atol=2e-3)
