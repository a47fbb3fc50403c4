"""Both sequence networks: the classic values, steps equal batches, NumPy equals torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from models.sequence import attention, recurrence
from models.sequence.attention import Attention, attend
from models.sequence.model import WINDOW, SequenceModel, scores
from models.sequence.networks import Network
from models.sequence.recurrence import LONGEST, Recurrence

ITEMS = 9
HASHES = np.arange(1, ITEMS + 1, dtype=np.uint64)
X = np.array([[[1, 0], [0, 1], [1, 1]]], np.float32)
I2 = np.eye(2, dtype=np.float32)
KINDS = ("recurrence", "attention")


def network(kind: str, seed: int = 3) -> Network:
    """Untrained, with every tensor away from its start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Network(kind, ITEMS, dropout=0.0).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def served(made: Network) -> SequenceModel:
    tensors = {name: value.detach().numpy().copy() for name, value in made.state_dict().items()}
    return Attention(tensors, HASHES) if "layers.0.near" in tensors else Recurrence(tensors, HASHES)


MODELS = {kind: served(network(kind)) for kind in KINDS}


def test_attention_gives_the_classic_values() -> None:
    """formulas: X = [[1,0],[0,1],[1,1]], all weights the identity."""
    causal = np.where(np.tri(3) > 0, 0, -np.inf).astype(np.float32)
    np.testing.assert_allclose(
        attend(X, X, I2, I2, I2, causal)[0], [[2, 0], [0.3302, 1.6698], [1.7517, 1.7517]], atol=5e-5
    )
    unmasked = attend(X, X, I2, I2, I2, np.zeros((3, 3), np.float32))
    np.testing.assert_allclose(unmasked[0, 0], [1.8022, 0.5989], atol=5e-5)
    # the last event alone, as it is served, is the last row of all
    np.testing.assert_allclose(
        attend(X[:, -1:], X, I2, I2, I2, causal[-1:])[0, 0], [1.7517, 1.7517], atol=5e-5
    )


def test_the_recurrence_gives_the_sum_that_its_formula_says() -> None:
    """h after n equal events is sqrt(1 - d^2) (W x + b) (1 - d^n) / (1 - d), channel by channel."""
    made = network("recurrence")
    model = served(made)
    first = made.layers[0]
    assert isinstance(first.into, torch.nn.Linear)
    decay = LONGEST / (1 + np.exp(-first.nu.detach().numpy().astype(np.float64)))
    fed = made.items.weight[4].detach().numpy().astype(np.float64) @ first.into.weight.detach().numpy().T
    fed += first.into.bias.detach().numpy()
    expected = np.sqrt(1 - decay**2) * fed * (1 - decay**5) / (1 - decay)
    state = model.replay(np.full((1, 5), 4, np.int32))
    np.testing.assert_allclose(state[0, : len(decay)], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_takes_no_more_than_a_kilobyte(kind: str) -> None:
    model = MODELS[kind]
    state = model.begin(1)
    assert state.nbytes == 4 * model.width <= 1024


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    histories=some.arrays(
        np.int32,
        st.tuples(st.integers(1, 5), st.integers(1, 80)),
        elements=st.integers(-1, ITEMS - 1),
        fill=st.nothing(),
    )
)
def test_steps_equal_a_batch(kind: str, histories: np.ndarray) -> None:
    """Any histories, holes in them included; and no reader's state depends on who else is in the batch."""
    model = MODELS[kind]
    stepped = model.begin(len(histories))
    for column in histories.T:
        before = stepped.copy()
        after = model.step(stepped, column)
        np.testing.assert_array_equal(stepped, before)
        np.testing.assert_array_equal(after[column < 0], before[column < 0])
        stepped = after
    batch = model.replay(histories)
    np.testing.assert_allclose(stepped, batch, atol=2e-5)
    alone = np.concatenate([scores(model, model.replay(row[None])) for row in histories])
    np.testing.assert_allclose(scores(model, batch), alone, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_left_the_ring_no_longer_matters(kind: str) -> None:
    """A state from the last 64 events ranks like one that was stepped since ever."""
    model = MODELS[kind]
    history = np.random.default_rng(5).integers(0, ITEMS, (20, 500)).astype(np.int32)
    ever, ring = (scores(model, model.replay(items)) for items in (history, history[:, -WINDOW:]))
    np.testing.assert_allclose(ever, ring, atol=3e-3)
    assert (ever.argmax(axis=1) == ring.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_answers_as_torch_does(kind: str) -> None:
    made = network(kind)
    history = np.random.default_rng(1).integers(0, ITEMS, (4, WINDOW)).astype(np.int32)
    with torch.inference_mode():
        expected = made.logits(made(torch.from_numpy(history).long())).numpy()
    model = served(made)
    for length in (1, 2, 17, WINDOW):
        found = scores(model, model.replay(history[:, :length]))
        np.testing.assert_allclose(found, expected[:, length - 1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_history_only_the_bias_speaks(kind: str) -> None:
    model = MODELS[kind]
    for state in (model.begin(2), model.replay(np.full((2, 3), -1, np.int32))):
        np.testing.assert_array_equal(scores(model, state), np.stack([model.vocabulary.bias] * 2))
    assert not len(model.queries(model.begin(0)))


@pytest.mark.parametrize(("kind", "module"), [("recurrence", recurrence), ("attention", attention)])
def test_shapes_are_those_of_the_network(kind: str, module: object) -> None:
    found = {name: tuple(value.shape) for name, value in network(kind).state_dict().items()}
    assert found == module.shapes(ITEMS)  # type: ignore[attr-defined]


def test_there_is_no_third_kind() -> None:
    with pytest.raises(ValueError, match="recurrence or attention"):
        Network("lstm", 3, 0.0)
