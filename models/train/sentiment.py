"""Trains the embedded sentiment weights: LoRA on MiniLM and a linear head, on SST-2 sentences.

    data       TSV, `sentence<TAB>0|1`; SST-2 (Socher et al., 2013): 6,920 for training, 872 for development
    network    MiniLM frozen; LoRA r=8, alpha 16 on all 36 linear layers; mean pool; dropout 0.1; 384 -> 2
    training   AdamW 1e-3, weight decay 0.01, 6 % warm-up then linear to 0, clip 1.0, batches of 32 by
               length, at most 64 tokens, bf16 autocast, 3 epochs; the one best on the development set is kept
    scores     the head is divided by one temperature, fitted on the development set (Guo et al., On
               Calibration of Modern Neural Networks, 2017): labels stay, scores become shares of right ones

Seeded: the same machine, torch and thread count give the same weights. About five minutes on one core.
"""

import csv
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import BadInput
from models.inference.lora import adapter_tensors, attach
from models.inference.tokens import collate, tokenize
from models.inference.weights import Manifest, write_weights
from models.tasks.minilm import NAME as ENCODER
from models.tasks.minilm import PAD_ID, WIDTH, load_minilm, load_minilm_tokenizer, masked_mean
from models.tasks.sentiment import ALPHA, CLASSES, NAME, RANK, TARGETS
from models.types import Unit

EPOCHS = 3
BATCH_ROWS = 32
MAX_TOKENS = 64  # three SST-2 sentences in 7,792 are longer
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
WARM_UP = 0.06  # share of all steps
CLIP_NORM = 1.0
DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """One line for the person who waits: after every tenth step, and after every epoch with its accuracy."""

    epoch: int
    step: int
    steps: int
    loss: float
    dev_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What was written, and how good it was on the development set after each epoch (shares of 1)."""

    folder: Path
    manifest: Manifest
    steps: int
    dev_accuracy: float
    dev_by_epoch: tuple[float, ...]
    dev_ci95: tuple[float, float]
    dev_calibration_error: float
    temperature: float


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled sentence: its token ids, at most 64, and 0 or 1."""

    unit: Unit
    label: int


class _Network(nn.Module):
    """Ids and mask (B, T) -> logits (B, 2), the form in which it is trained."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = load_minilm()
        attach(self.encoder, TARGETS, RANK, ALPHA, generator)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(WIDTH, len(CLASSES))
        with torch.no_grad():
            self.head.weight.normal_(0, 0.02, generator=generator)
            self.head.bias.zero_()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        logits: Tensor = self.head(self.dropout(masked_mean(hidden, mask)))
        return logits.float()


def train_sentiment(
    train_path: Path,
    dev_path: Path,
    out: Path,
    *,
    revision: str,
    seed: int = 1,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Train, and write bf16 weights with their manifest into the folder `out` (made if absent).

    Takes torch's thread count as it finds it. Raises BadInput for a malformed line of the data.
    """
    train, dev = read_tsv(train_path), read_tsv(dev_path)
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator
        torch.manual_seed(seed)
        network = _Network(torch.Generator().manual_seed(seed))
        steps, by_epoch, best = _fit(network, train, dev, seed, progress)
    temperature = _temperature(network, dev)
    best |= {f"head.{part}": best[f"head.{part}"] / temperature for part in ("weight", "bias")}
    _restore(network, best)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.bfloat16() for name, tensor in best.items()}
    source = f"models/train/sentiment.py, seed {seed}, {len(train)} SST-2 sentences on {ENCODER}"
    manifest = write_weights(out, tensors, name=NAME, revision=revision, licence="Apache-2.0", source=source)
    logits, labels = _dev_logits(network, dev)
    right = (logits.argmax(1) == labels).numpy()
    return Trained(
        folder=out,
        manifest=manifest,
        steps=steps,
        dev_accuracy=float(right.mean()),
        dev_by_epoch=tuple(by_epoch),
        dev_ci95=bootstrap_ci95(right, seed),
        dev_calibration_error=calibration_error(logits, labels),
        temperature=temperature,
    )


def read_tsv(path: Path) -> list[Example]:
    """Sentences and labels of a TSV. Raises BadInput with the line's number if one is not `text<TAB>0|1`."""
    tokenizer = load_minilm_tokenizer(MAX_TOKENS)
    examples = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if len(row) != 2 or row[1] not in ("0", "1") or not row[0].strip():
                raise BadInput("undecodable", f"{path}, line {number}: not `sentence<TAB>0|1`")
            ids = tokenize(tokenizer, row[0]).ids
            examples.append(Example(Unit(len(ids), ids), int(row[1])))
    return examples


def bootstrap_ci95(right: NDArray[np.bool_], seed: int, resamples: int = 10_000) -> tuple[float, float]:
    """Percentile interval of the mean of `right` (N,) over resampled sentences (Efron, 1979)."""
    rng = np.random.default_rng(seed)
    means = rng.binomial(len(right), right.mean(), resamples) / len(right)  # resampling N coins, at once
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 10) -> float:
    """Expected calibration error of logits (N, C) for labels (N,): mean of |confidence - accuracy| by bin."""
    confidence, answers = logits.softmax(1).max(1)
    right = (answers == labels).float()
    in_bin = (confidence * bins).long().clamp(max=bins - 1)
    gaps = [
        (confidence[in_bin == at] - right[in_bin == at]).sum().abs()
        for at in range(bins)
        if (in_bin == at).any()
    ]
    return float(torch.stack(gaps).sum() / len(labels))


def _fit(
    network: _Network,
    train: Sequence[Example],
    dev: Sequence[Example],
    seed: int,
    progress: Callable[[Progress], None],
) -> tuple[int, list[float], dict[str, Tensor]]:
    """All epochs. Leaves the network, and returns the tensors, as they were after the best epoch."""
    shuffle = random.Random(seed)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(train) // BATCH_ROWS)
    warm_up = max(1, round(WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / (steps - warm_up))
    )
    by_epoch: list[float] = []
    best: dict[str, Tensor] = {}
    step = 0
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for batch in _batches(train, shuffle):
            loss = _loss(network, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, CLIP_NORM)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 10 == 0:
                progress(Progress(epoch, step, steps, float(loss.detach())))
        logits, labels = _dev_logits(network, dev)
        by_epoch.append(float((logits.argmax(1) == labels).float().mean()))
        progress(Progress(epoch, step, steps, float(loss.detach()), by_epoch[-1]))
        if by_epoch[-1] == max(by_epoch) and by_epoch.index(by_epoch[-1]) == epoch - 1:
            best = _tensors(network)
    _restore(network, best)
    return step, by_epoch, best


def _batches(examples: Sequence[Example], shuffle: random.Random) -> list[list[Example]]:
    """Random batches of similar length: sorted within shuffled stretches of 50 batches, then shuffled."""
    order = list(examples)
    shuffle.shuffle(order)
    stretch = 50 * BATCH_ROWS
    batches = []
    for start in range(0, len(order), stretch):
        part = sorted(order[start : start + stretch], key=lambda example: example.unit.length)
        batches += [part[at : at + BATCH_ROWS] for at in range(0, len(part), BATCH_ROWS)]
    shuffle.shuffle(batches)
    return batches


def _loss(network: _Network, batch: Sequence[Example]) -> Tensor:
    ids, mask = collate([example.unit for example in batch], PAD_ID)
    labels = torch.tensor([example.label for example in batch])
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(ids, mask)
    return nn.functional.cross_entropy(logits, labels)


@torch.inference_mode()
def _dev_logits(network: _Network, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits (N, 2) and labels (N,), by length, in fp32 and without dropout."""
    network.eval()
    ordered = sorted(examples, key=lambda example: example.unit.length)
    logits = []
    for start in range(0, len(ordered), 64):
        rows = ordered[start : start + 64]
        logits.append(network(*collate([row.unit for row in rows], PAD_ID)))
    return torch.cat(logits), torch.tensor([example.label for example in ordered])


def _temperature(network: _Network, dev: Sequence[Example]) -> float:
    """The divisor of the logits that makes the labels likeliest, to a hundredth."""
    logits, labels = _dev_logits(network, dev)
    tried = [step / 100 for step in range(50, 501)]
    return min(tried, key=lambda divisor: float(nn.functional.cross_entropy(logits / divisor, labels)))


def _tensors(network: _Network) -> dict[str, Tensor]:
    head = {f"head.{name}": value.detach().clone() for name, value in network.head.named_parameters()}
    return adapter_tensors(network.encoder) | head


def _restore(network: _Network, tensors: dict[str, Tensor]) -> None:
    """Put back what `_tensors` took, rounded to bf16 as in the file, so that scores are those of the file."""
    with torch.no_grad():
        for name, parameter in network.encoder.named_parameters():
            if name in tensors:
                parameter.copy_(tensors[name].bfloat16())
        for name, parameter in network.head.named_parameters():
            parameter.copy_(tensors[f"head.{name}"].bfloat16())
