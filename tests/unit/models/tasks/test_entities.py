"""Entities: the embedded finder, a user's token classifiers against transformers' own pipeline, places in the text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.errors import BadInput, ModelError, WeightsMismatch
from models.inference.mentions import cut
from models.inference.offline import label_all
from models.inference.spacy_entities import name_alone
from models.inference.token_labels import Tag, TokenLabels, Word, mentions_of, tag_of
from models.tasks.entities import Entities
from models.types import Finding, LoadOptions, Outcome, Payload

NEWS = (
    "Angela Merkel met Emmanuel Macron in Berlin on Tuesday, Siemens said. "
    "The United Nations in New York welcomed it."
)
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
PIECES = (
    "mary smith of green ##peace went to leeds and lon ##don with the un . , a b c ##d e ##f g o ' br ##ien"
)
WORDS = tuple(PIECES.split(" "))


def findings(task: Entities, *texts: str) -> list[Finding]:
    results: dict[int, Outcome | ModelError] = dict(
        label_all(task, [Payload("text/plain", text.encode(), language="en") for text in texts])
    )
    found = []
    for index in range(len(texts)):
        outcome = results[index]
        assert isinstance(outcome, Outcome), outcome
        found.append(outcome.findings[0])
    return found


def named(finding: Finding) -> list[tuple[str, str]]:
    assert isinstance(finding.value, list)
    return [(str(one["name"]), str(one["kind"])) for one in finding.value if isinstance(one, dict)]


def write_checkpoint(folder: Path, labels: tuple[str, ...] = LABELS, positions: int = 512) -> Path:
    """A tiny BERT with random weights, large enough that every label comes up."""
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: at for at, label in enumerate(labels)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(6.0 if parameter.ndim > 1 else 1.0)
    network.save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.mark.models
def test_the_embedded_finder_names_people_places_and_organisations_where_they_stand(tmp_path: Path) -> None:
    task = Entities.load(LoadOptions(cache=tmp_path))
    # A byte order mark does not count; neither blanks nor composed letters move what comes behind them.
    text = "\t\tAnge\u0301lique  Kidjo sang in  Cotonou.\r\n" + NEWS
    first, second, none = findings(task, NEWS, "\ufeff" + text, "nothing of note happened here at all")
    assert named(first) == [
        ("Angela Merkel", "person"),
        ("Emmanuel Macron", "person"),
        ("Berlin", "place"),
        ("Siemens", "organisation"),
        ("United Nations", "organisation"),
        ("New York", "place"),
    ]
    assert [NEWS[int(s.start) : int(s.end)] for s in first.spans] == [name for name, _ in named(first)]
    assert first.detail["mentions"] == 6
    assert "Merkel" in " ".join(text[int(s.start) : int(s.end)] for s in second.spans)
    at = text.index("Berlin")
    assert (at, at + 6, "place") in [(s.start, s.end, s.value) for s in second.spans]
    assert none.value == [] and none.spans == ()


@pytest.mark.models
def test_other_languages_get_no_names_and_dates_only_those_who_ask(tmp_path: Path) -> None:
    task = Entities.load(LoadOptions(cache=tmp_path, options={"kinds": {"date": "when", "ORG": "company"}}))
    english, chinese = findings(task, NEWS, "昨天总理在北京会见了来访的客人,双方讨论了贸易问题。")
    assert ("Tuesday", "when") in named(english) and ("Siemens", "company") in named(english)
    assert chinese.value == "unsupported_language" and chinese.score is None
    told = [
        Payload("text/plain", text.encode())
        for text in (
            NEWS.split("Tuesday")[0],
            "Der Kanzler sprach gestern mit Herrn Müller in Köln über Geld.",
        )
    ]
    names, german = (task.finish(one, task.forward(one.units)).findings[0] for one in map(task.prepare, told))
    assert named(names)[0] == ("Angela Merkel", "person"), "German names make no German text"
    assert german.value == "unsupported_language"
    with pytest.raises(ValueError, match="kind is no option of it"):
        Entities.load(LoadOptions(cache=tmp_path, options={"kind": {"DATE": "when"}}))
    with pytest.raises(ValueError, match="kinds is"):
        Entities.load(LoadOptions(cache=tmp_path, options={"kinds": {"DATE": 1}}))


@pytest.mark.models
def test_long_texts_are_read_whole_and_new_words_are_forgotten(tmp_path: Path) -> None:
    task = Entities.load(LoadOptions(cache=tmp_path))
    long = "Nothing of note was said about anything by anyone. " * 400 + "Mary Smith lives in Paris."
    (found,) = findings(task, long)
    assert {("Mary Smith", "person"), ("Paris", "place")} <= set(named(found))
    at = int(found.spans[-1].start)
    assert long[at : at + 5] == "Paris"
    strings = task._finder._pipeline.vocab.strings  # type: ignore[attr-defined]
    before = len(strings)
    findings(task, *(f"Qx{n}zard went to Zx{n}burg with Wy{n}." for n in range(200)))
    assert len(strings) == before


@pytest.mark.models
def test_a_changed_file_of_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.inference import spacy_entities

    monkeypatch.setitem(spacy_entities._FILES, "ner/model", "0" * 64)
    with pytest.raises(
        WeightsMismatch, match=r"ner/model has sha256 cd93e9ca9126…, not 000000000000…; install en-core"
    ):
        Entities.load(LoadOptions(cache=tmp_path))
    monkeypatch.setattr(spacy_entities, "find_spec", lambda name: None)
    with pytest.raises(WeightsMismatch, match=r"install headrace\[entities\]"):
        Entities.load(LoadOptions(cache=tmp_path))


def test_a_users_checkpoint_answers_as_the_pipeline_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    folder = write_checkpoint(tmp_path / "mine")
    task = Entities.load(LoadOptions(cache=tmp_path, folder=folder, options={"kinds": {"misc": "other"}}))
    texts = [
        "Mary Smith of Greenpeace went to Leeds and London, with the UN.",
        "a b cd ef g, a Mary cd Leeds the Greenpeace O'Brien of London",
        "Leeds",
        "the un with London . and Mary Smith cd cd of b",
    ]
    oracle = pipeline(
        "token-classification",
        model=AutoModelForTokenClassification.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        aggregation_strategy="first",
    )
    kinds = {"PER": "person", "LOC": "place", "MISC": "other"}
    seen = set()
    for text, ours in zip(texts, findings(task, *texts), strict=True):
        wanted = [
            (one["start"], one["end"], kinds[one["entity_group"]], one["score"]) for one in oracle(text)
        ]
        assert [(s.start, s.end, s.value) for s in ours.spans] == [one[:3] for one in wanted]
        assert [s.score for s in ours.spans] == pytest.approx([float(one[3]) for one in wanted], abs=1e-4)
        seen |= {one[2] for one in wanted}
    assert seen == {*kinds.values()}, "the random weights must say every kind"


def test_every_word_of_a_long_text_is_judged_once_and_in_its_place(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine", positions=32)
    finder = TokenLabels.load(LoadOptions(cache=tmp_path), folder)
    text = "Mary Smith of Greenpeace went to Leeds, " * 20 + "cd" + "cd" * 60
    units = finder.pieces(text)
    assert len(units) > 5 and max(unit.length for unit in units) <= 32
    words = [span for unit in units for span in unit.data.spans]
    assert words == sorted(set(words)) and len(words) == 20 * 8 + 1
    for unit in units:
        assert len(unit.data.firsts) == len(unit.data.spans)
        assert all(0 < first < unit.length - 1 for first in unit.data.firsts)
    together = finder.find(units)
    for unit, found in zip(units, together, strict=True):
        alone = finder.find([unit])[0]
        assert [(m.start, m.end, m.kind) for m in alone] == [(m.start, m.end, m.kind) for m in found]


def test_folders_that_name_no_entities_or_lack_the_head_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine", labels=("positive", "negative"))
    with pytest.raises(WeightsMismatch, match="names no labels of entities"):
        Entities.load(LoadOptions(cache=tmp_path, folder=folder))
    from safetensors.torch import load_file, save_file

    folder = write_checkpoint(tmp_path / "headless")
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "classifier" not in n}, folder / "model.safetensors")
    with pytest.raises(WeightsMismatch, match="lacks 2 tensors"):
        Entities.load(LoadOptions(cache=tmp_path, folder=folder))


def test_a_network_that_gives_no_numbers_labels_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine")
    task = Entities.load(LoadOptions(cache=tmp_path, folder=folder))
    next(iter(task._finder._network.parameters())).fill_(float("nan"))  # type: ignore[attr-defined]
    (refused,) = dict(label_all(task, [Payload("text/plain", b"Mary Smith")])).values()
    assert isinstance(refused, BadInput) and refused.reason == "not_finite"


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("O", Tag("", None)),
        ("B-PER", Tag("B", "PER")),
        ("I_LOC", Tag("I", "LOC")),
        ("U-ORG", Tag("S", "ORG")),
        ("L-ORG", Tag("E", "ORG")),
        ("PER", Tag("", "PER")),
        ("B-", Tag("", "B-")),
        ("ORG-B", Tag("", "ORG-B")),
    ],
)
def test_labels_are_told_apart_in_every_scheme(label: str, tag: Tag) -> None:
    assert tag_of(label) == tag


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("B-P I-P O B-P", [(0, 2, "P"), (3, 4, "P")]),
        ("I-P I-P B-P I-L", [(0, 2, "P"), (2, 3, "P"), (3, 4, "L")]),
        ("B-P E-P I-P S-P S-P", [(0, 2, "P"), (2, 3, "P"), (3, 4, "P"), (4, 5, "P")]),
        ("P P O P L", [(0, 2, "P"), (3, 4, "P"), (4, 5, "L")]),
        ("O O", []),
    ],
)
def test_words_join_as_their_scheme_says(labels: str, spans: list[tuple[int, int, str]]) -> None:
    words = [Word(at, at + 1, tag_of(label), 0.5) for at, label in enumerate(labels.split())]
    assert [(m.start, m.end, m.kind) for m in mentions_of(words)] == spans


def test_texts_are_cut_between_words_where_there_are_any() -> None:
    text = "one two. three four five " * 3 + "x" * 40
    parts = [text[start:end] for start, end in cut(text, 30)]
    assert "".join(parts) == text and max(map(len, parts)) <= 30
    assert all(part[-1] in " \n" for part in parts[:3])


def test_a_line_of_names_alone_is_in_the_declared_language(tmp_path: Path) -> None:
    task = Entities.load(LoadOptions(tmp_path))
    line, other = (
        "12. Giovanna Troldi (Italy) 38.285",
        "das ist wirklich ein sehr schlechter Film",
    )  # "it" by letters

    def found(text: str, language: str | None) -> Any:
        prepared = task.prepare(Payload("text/plain", text.encode(), language))
        outputs = task.forward(prepared.units) if prepared.units else []
        return task.finish(prepared, outputs).findings[0].value

    assert [one["kind"] for one in found(line, "en-GB")] == ["person", "place"]
    assert found("HELSINKI 1996-08-30", "en") != "unsupported_language"  # Finnish, as letters go
    refused = [(line, None), (line, "it"), ("ВЛАДИМИР ПУТИН", "en"), (other, "en")]
    assert [found(*one) for one in refused] == ["unsupported_language"] * len(refused)


@pytest.mark.parametrize(
    ("text", "name", "alone"),
    [
        ("He left the United Nations.", "the United Nations", "United Nations"),
        ("The Senate met.", "The Senate", "Senate"),
        ("He left The Hague.", "The Hague", "The Hague"),
        ("Spain's king", "Spain's", "Spain"),
    ],
)
def test_a_span_is_the_name_alone(text: str, name: str, alone: str) -> None:
    start = text.index(name)
    begins, ends = name_alone(text, start, start + len(name))
    assert text[begins:ends] == alone
