"""Own networks against transformers' Whisper, at a tiny size with random weights: no package, no download."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from models.inference.captures import Graph, Network
from models.inference.compiles import compiles
from models.inference.memory import weights_bytes
from models.inference.static_steps import StaticSteps
from models.networks.greedy import Encoded, GreedyDecoder, Rules, decode_greedy
from models.networks.lite0 import Lite0
from models.networks.packed import can_pack, pack_linears
from models.networks.precision import torch_dtype
from models.networks.silence import sampled, sampled_positions
from models.networks.whisper import Whisper, WhisperShape
from models.networks.whisper_names import expected_shapes, from_hugging_face

SHAPE = WhisperShape(
    width=32,
    mels=8,
    vocabulary=50,
    encoder_layers=2,
    decoder_layers=3,
    encoder_heads=4,
    decoder_heads=2,
    encoder_inner=64,
    decoder_inner=48,
    positions=40,
    longest_text=20,
)
RULES = Rules(end=40, no_speech=45, never=(41, 42, 43, 44, 45), never_first=(3,))


def random_tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=random) * (0.4 if len(shape) > 1 else 0.1)
        + (1.0 if "norm.weight" in name else 0.0)
        for name, shape in expected_shapes(SHAPE).items()
    }


@pytest.fixture(scope="module")
def net() -> Whisper:
    network = Whisper(SHAPE)
    network.load_state_dict(from_hugging_face(random_tensors(), SHAPE), strict=True)
    return network.eval().requires_grad_(False)


def test_the_names_and_the_numbers_are_those_of_transformers(net: Whisper) -> None:
    from transformers.models.whisper.configuration_whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperForConditionalGeneration

    oracle = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=SHAPE.vocabulary,
            num_mel_bins=SHAPE.mels,
            d_model=SHAPE.width,
            encoder_layers=SHAPE.encoder_layers,
            decoder_layers=SHAPE.decoder_layers,
            encoder_attention_heads=SHAPE.encoder_heads,
            decoder_attention_heads=SHAPE.decoder_heads,
            encoder_ffn_dim=SHAPE.encoder_inner,
            decoder_ffn_dim=SHAPE.decoder_inner,
            max_source_positions=SHAPE.positions,
            max_target_positions=SHAPE.longest_text,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=40,
            decoder_start_token_id=0,
        )
    ).eval()
    tensors = random_tensors()
    missing, unexpected = oracle.load_state_dict(tensors, strict=False)
    assert missing == ["proj_out.weight"] and not unexpected
    oracle.tie_weights()
    mel = torch.randn(2, SHAPE.mels, 80)
    tokens = torch.tensor([[1, 2, 5, 9], [1, 2, 7, 8]])
    with torch.inference_mode():
        expected = oracle(input_features=mel, decoder_input_ids=tokens).logits
        states, mask = net.encode(mel, [80, 80])
        assert mask is None
        cache = net.start(states, mask, 4)
        steps = [
            net.prompt(tokens[:, :2], cache),
            net.step(tokens[:, 2], cache, 3)[:, None],
            net.step(tokens[:, 3], cache)[:, None],
        ]
    assert torch.allclose(torch.cat(steps, 1), expected, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("at_once", [False, True])
def test_neighbours_change_nothing(net: Whisper, stride: int, at_once: bool) -> None:
    random = torch.Generator().manual_seed(7)
    encode = net.encode_together if at_once else net.encode
    rows = [torch.randn(SHAPE.mels, frames, generator=random) for frames in (24, 40, 80, 56, 30)]
    for row in rows:
        if row.shape[1] < 80:
            row[:, -10:] = -3.0  # silence
    prompts, limits = torch.tensor([[1, 2]]), [12, 3, 15, 7, 9]
    alone = []
    with torch.inference_mode():
        for row, limit in zip(rows, limits, strict=True):
            states, mask = net.encode(row[None], [row.shape[1]], stride)
            alone += decode_greedy(net, states, mask, prompts, [limit], RULES)
        batch = torch.full((5, SHAPE.mels, 80), -3.0)
        for n, row in enumerate(rows):
            batch[n, :, : row.shape[1]] = row
        states, mask = encode(batch, [row.shape[1] for row in rows], stride)
        together = decode_greedy(net, states, mask, prompts.expand(5, 2), limits, RULES)
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    for ours, other in zip(together, alone, strict=True):
        assert ours.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert ours.no_speech == pytest.approx(other.no_speech, abs=1e-5)
        assert ours.cut == other.cut
    assert len({row.tokens for row in together}) > 1, "rows that all agree prove nothing"


def unrecorded(network: Network, inputs: tuple[torch.Tensor, ...]) -> Graph:
    """As a graph: the same memory in and out, whatever runs."""
    output = network(*inputs).clone()
    return Graph(inputs, output, lambda: output.copy_(network(*inputs)))


@pytest.mark.parametrize(("places", "static"), [(1, False), (3, False), (5, False), (3, True), (5, True)])
@pytest.mark.parametrize("at_once", [False, True])
def test_who_takes_a_free_place_is_decoded_as_alone(
    net: Whisper, places: int, static: bool, at_once: bool
) -> None:
    """Rows of other lengths, that ended earlier or later, were there before; some end at their first token."""
    random = torch.Generator().manual_seed(17)
    frames = [80, 80, 64, 56, 40, 40, 40, 30, 24, 24, 24]
    limits = [3, 12, 1, 9, 15, 2, 7, 5, 18, 4, 6]
    rows = [torch.randn(1, SHAPE.mels, one, generator=random) for one in frames]
    for row in rows[2:]:
        row[:, :, -10:] = -3.0
    prompt = torch.tensor([[1, 2]])

    def encode(numbers: Sequence[int]) -> Encoded:
        batch = torch.full((len(numbers), SHAPE.mels, frames[numbers[0]]), -3.0)
        for n, number in enumerate(numbers):
            batch[n, :, : frames[number]] = rows[number][0]
        encoder = net.encode_together if at_once else net.encode
        states, mask = encoder(batch, [frames[number] for number in numbers], 4)
        return Encoded(states, mask, prompt.expand(len(numbers), 2))

    with torch.inference_mode():
        alone = [
            GreedyDecoder(net, RULES, 1).decode(lambda _, n=n: encode([n]), [limit])[0]
            for n, limit in enumerate(limits)
        ]
        steps = StaticSteps(net, unrecorded, rows=(2, 4, 8), positions=(25,)) if static else None
        if steps:
            steps.warm_up()
        warm = compiles()
        decoder = GreedyDecoder(net, RULES, places, steps)
        together = decoder.decode(encode, limits)
        if steps:
            assert steps.replays == decoder.steps and not steps.eager and not steps.failures
        assert compiles() == warm
        groups = [GreedyDecoder(net, RULES, places) for _ in range(0, len(limits), places)]
        for n, group in enumerate(groups):
            start = n * places
            group.decode(lambda numbers, s=start: encode([s + m for m in numbers]), limits[start:][:places])
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    assert [row.cut for row in together] == [row.cut for row in alone]
    for ours, other in zip(together, alone, strict=True):
        assert ours.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert ours.no_speech == pytest.approx(other.no_speech, abs=1e-5)
    assert len({len(row.tokens) for row in together}) > 3, "rows that end together prove nothing"
    before = sum(group.steps for group in groups)
    assert decoder.steps <= before and (places == 1 or decoder.steps < before)


def test_what_fits_into_no_graph_is_decoded_all_the_same(net: Whisper) -> None:
    def refused(network: Network, inputs: tuple[torch.Tensor, ...]) -> Graph:
        if inputs[0].shape[0] == 2:
            raise RuntimeError("CUDA out of memory\nand so on")
        return unrecorded(network, inputs)

    steps = StaticSteps(net, refused, rows=(2, 3), positions=())
    before = compiles()
    with torch.inference_mode():
        steps.warm_up()
        assert compiles() == before + 1 and steps.failures == {(2, 40): "CUDA out of memory"}
        states, mask = net.encode(torch.randn(4, SHAPE.mels, 80), [80] * 4)
        for rows in (4, 2, 3, 1):
            given = Encoded(states[:rows], mask, torch.tensor([[1, 2]] * rows))
            limits = [9] * rows
            right = GreedyDecoder(net, RULES, rows).decode(lambda _, one=given: one, limits)
            found = GreedyDecoder(net, RULES, rows, steps).decode(lambda _, one=given: one, limits)
            assert [one.tokens for one in found] == [one.tokens for one in right]
    assert steps.eager == {"no_bucket": 1, "no_capture": 2} and steps.replays > 0


def test_silence_counts_in_full_however_few_of_its_positions_are_computed() -> None:
    for stride in (1, 3, 4, 50):
        found = sampled([24, 80, 78], 40, stride)
        assert np.allclose(np.exp(found.weights).sum(axis=1), 40), "attention weighs a whole window"
        for row, end in enumerate((12, 40, 39)):
            size = sampled_positions(2 * end, 40, stride)
            starts, ends = found.starts[row, :size], found.ends[row, :size]
            assert starts[:end].tolist() == list(range(end)), "all of the sound"
            assert (
                starts[0] == 0
                and ends[-1] == 40
                and (starts[1:] == ends[:-1]).all()
                and (ends > starts).all()
            )
            assert (found.heard[row, : end - 3] == starts[: end - 3]).all()
            assert (found.heard[row, end:size] == end - 3).all() or end == size
            assert np.isinf(found.weights[row, size:]).all()
    assert sampled([24], 40, 1).starts.shape == (1, 40) and sampled([24], 40, 4).starts.shape == (1, 12 + 7)


def test_sampled_silence_is_near_the_whole_window(net: Whisper) -> None:
    mel = torch.full((1, SHAPE.mels, 80), -1.0)
    mel[:, :, :20] = torch.randn(SHAPE.mels, 20, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        whole, mask = net.encode(mel, [80])
        assert mask is None
        every, _ = net.encode(mel, [30], 1)
        sampled_, _ = net.encode(mel, [30], 4)
        mean, _ = net.encode(mel, [30], 4, mean=True)
        shut, _ = net.encode(mel[:, :, :30].contiguous(), [30], 25)
        far = [float((one[:, :15] - whole[:, :15]).abs().mean()) for one in (every, sampled_, mean, shut)]
        assert far[0] < far[1] < far[3] and far[0] < far[2] < far[3], far
        assert not torch.allclose(mean, sampled_)
        alone, _ = net.encode(mel, [30], 1, mean=True)
        assert torch.allclose(alone, every, atol=1e-6), "the mean of one is itself"


def test_suppressed_tokens_and_limits_hold(net: Whisper) -> None:
    random = torch.Generator().manual_seed(8)
    with torch.inference_mode():
        states, mask = net.encode(torch.randn(6, SHAPE.mels, 80, generator=random), [80] * 6)
        for never in ((41, 42), (*range(10, 40), 41, 42)):
            rules = Rules(40, 45, never, (1, 2, 3))
            for row in decode_greedy(net, states, mask, torch.tensor([[1, 2]] * 6), [4] * 6, rules):
                assert len(row.tokens) <= 4
                assert not set(row.tokens) & set(never)
                assert row.tokens[:1] not in ((1,), (2,), (3,))
                assert row.avg_logprob <= 0 and np.isfinite(row.avg_logprob)


def test_folding_batch_norm_keeps_the_function() -> None:
    torch.manual_seed(0)
    network = Lite0().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        before = network(pixels)
        after = network.fold()(pixels)
    assert before.shape == (2, 1000)
    assert torch.allclose(before, after, atol=1e-4)


def test_same_padding_puts_the_odd_pixel_right_and_below() -> None:
    from models.networks.lite0 import SameConv

    conv = SameConv(1, 1, 3, stride=2)
    torch.nn.init.ones_(conv.weight)
    pixels = torch.zeros(1, 1, 4, 4)
    pixels[..., 2, 2] = 1.0
    # The window of the first output covers pixels 0..2, of the second 2..4 (4 is padding).
    assert conv(pixels).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="float12"):
        torch_dtype("float12", "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_are_the_layers(dtype: torch.dtype) -> None:
    if dtype is torch.bfloat16 and torch_dtype("auto", "cpu") is not dtype:
        pytest.skip("this processor does not compute in bfloat16")
    network = torch.nn.Sequential(
        torch.nn.Linear(24, 40), torch.nn.Sequential(torch.nn.Linear(40, 8, bias=False))
    )
    network = network.to(dtype).requires_grad_(False)
    inputs = [torch.randn(*shape, 24).to(dtype) for shape in ((1,), (3, 1), (2, 70))]
    right, weight = [network(one) for one in inputs], network[0].weight.clone()
    assert weights_bytes(network) == (24 * 40 + 40 + 40 * 8) * dtype.itemsize
    pack_linears(network)
    if not can_pack(torch.zeros(1, 1, dtype=dtype)):
        pytest.skip("this processor has no packed layers")
    assert not [one for one in network.modules() if type(one) is torch.nn.Linear]
    assert torch.equal(network[0].weight, weight), "some networks look at their layers' weights themselves"
    assert weights_bytes(network) == (24 * 40 + 40 + 40 * 8) * dtype.itemsize
    for one, expected in zip(inputs, right, strict=True):
        assert torch.allclose(network(one), expected, atol=1e-5 if dtype is torch.float32 else 2e-2)
