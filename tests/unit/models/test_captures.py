"""What is around a captured graph: buckets, padding, counting, and what happens where none could be captured. The
recorder here replays by running the network on the graph's own buffers, so every number is computed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from models.inference.captures import Blank, Eager, Graph, Graphs, Network
from models.inference.compiles import compiles
from models.inference.devices import captures_of, upload_to
from models.inference.offline import label_all, warm_up
from models.inference.tokens import collate
from models.tasks.embed import Embed, default_encoder
from models.types import Payload, Unit

BLANKS = (Blank(7), Blank(0))


def network(ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T) -> (B, 2): NaN where a row has nothing, as attention gives it."""
    sums = (ids * mask).sum(1).float()
    return torch.stack((sums / mask.sum(1), sums), 1)


def replaying(run: Network, inputs: tuple[Tensor, ...]) -> Graph:
    output = run(*inputs)

    def replay() -> None:
        output.copy_(run(*inputs))

    return Graph(inputs, output, replay)


def graphs(most_cost: int = 512, record: object = replaying) -> Graphs:
    return Graphs(network, record, BLANKS, "cpu", most_cost)  # type: ignore[arg-type]


def batch(*lengths: int) -> tuple[Tensor, Tensor]:
    return collate([Unit(n, torch.arange(1, n + 1).numpy()) for n in lengths], 7)


def test_a_batch_is_padded_to_its_bucket_and_answers_are_its_own() -> None:
    made = graphs()
    made.warm_up()
    for lengths in ((8,), (7, 8), (15, 16, 16), (31, 32), (16, 9, 16, 2, 16)):
        inputs = batch(*lengths)
        torch.testing.assert_close(made.run(*inputs), network(*inputs))
    assert made.replays == 5
    kept = made.run(*batch(8))
    before = kept.clone()
    made.run(*batch(7, 8))
    made.run(*batch(5 + 3))
    torch.testing.assert_close(kept, before)  # the caller's to keep: a replay writes over the graph's own


def test_what_would_be_padded_too_much_runs_eagerly_and_is_counted() -> None:
    made = graphs()
    made.warm_up()
    inputs = batch(9, 9, 9, 9, 9, 9, 9)
    torch.testing.assert_close(made.run(*inputs), network(*inputs))
    made.run(*batch(*[8] * 9))  # more rows than graphs pay for
    assert (made.replays, dict(made.eager)) == (0, {"padding": 2})


def test_captures_are_counted_and_none_comes_after_the_warm_up() -> None:
    made = graphs()
    before = compiles()
    made.warm_up()
    assert compiles() - before == len(made) == len(list(made.shapes())) > 20
    for rows in range(1, 12):
        for length in range(1, 64):
            made.run(*batch(*[length] * rows))
    assert compiles() - before == len(made)
    assert made.replays > 100


def test_the_largest_is_captured_first_and_none_is_over_the_budget() -> None:
    costs = [rows * length for rows, length in graphs(512).shapes()]
    assert costs == sorted(costs, reverse=True)
    assert max(costs) <= 512


def test_where_a_capture_fails_batches_run_eagerly_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    def failing(run: Network, inputs: tuple[Tensor, ...]) -> Graph:
        if inputs[0].numel() > 64:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore")
        return replaying(run, inputs)

    made = graphs(record=failing)
    made.warm_up()
    assert made.failures and set(made.failures.values()) == {
        "CUDA out of memory. Tried to allocate 20.00 MiB"
    }
    assert any("run eagerly" in record.getMessage() for record in caplog.records)
    inputs = batch(*[128] * 2)
    torch.testing.assert_close(made.run(*inputs), network(*inputs))
    made.run(*batch(8))
    assert (made.replays, dict(made.eager)) == (1, {"no_capture": 1})


@given(st.integers(1, 80), st.integers(1, 600))
def test_a_bucket_holds_the_batch_and_pads_an_eighth_at_most(rows: int, length: int) -> None:
    found = graphs(1 << 20).bucket(rows, length)
    if found is not None:
        assert found[0] >= rows and found[1] >= length
        assert found[0] * found[1] <= 1.125 * rows * length


def test_a_real_encoder_gives_the_same_vectors_by_graphs() -> None:
    encoder = default_encoder()
    texts = ["a fine day in town", "the minister said that nothing would change", "rain"]
    task = Embed(encoder)
    units = [task.prepare(Payload("text/plain", text.encode())).units[0] for text in texts]
    inputs = collate(units, encoder.pad_id)
    made = Graphs(encoder.pooled, replaying, (Blank(encoder.pad_id), Blank(0)), "cpu", 64, most_rows=4)
    with torch.inference_mode():
        made.warm_up()
        one = made.run(inputs[0][:1, :8], inputs[1][:1, :8])
        torch.testing.assert_close(
            one, encoder.pooled(inputs[0][:1, :8], inputs[1][:1, :8]), atol=1e-5, rtol=0
        )
    assert made.replays == 1


def test_on_a_cpu_networks_run_as_they_are() -> None:
    runner = captures_of(network, BLANKS, "cpu", 2048)
    assert isinstance(runner, Eager)
    torch.testing.assert_close(runner.run(*batch(3, 5)), network(*batch(3, 5)))
    array = torch.arange(6).numpy()
    assert upload_to("cpu")(array).data_ptr() == array.ctypes.data  # not even copied


def test_the_warm_up_of_a_task_captures_its_graphs() -> None:
    task = Embed(default_encoder())
    made = Graphs(nn.Identity(), replaying, (Blank(0),), "cpu", 64)
    task.captures = (made,)  # type: ignore[assignment]
    warm_up(task)
    assert len(made) == len(list(made.shapes()))
    assert len(list(label_all(task, task.examples()[:2]))) == 2
