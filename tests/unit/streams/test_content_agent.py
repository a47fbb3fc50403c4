"""What labels say of an asset's content: words of transcripts, of pictures, and tags; others say nothing."""

from typing import Any

import pytest

from streams.agents.content import TEXT_CHARS, text_of
from streams.events import Because, Label, ModelName


def label(task: str, value: Any, **more: Any) -> Label:
    model, because = ModelName("m", "1", "float32", "0" * 64), Because("uploads", 0, 1)
    return Label("l", "a", task, 1, model, value, because, {}, **more)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (label("transcribe", " The river rose. "), "The river rose."),
        (label("transcribe", ""), ""),
        (label("ocr", "River closed\n前方道路封闭"), "River closed\n前方道路封闭"),
        (label("ocr", ""), ""),
        (label("transcribe", "x" * 9_000), "x" * TEXT_CHARS),
        (label("tag", [{"tag": "dog", "score": 0.9}, {"tag": "beach", "score": 0.1}]), "dog, beach"),
        (label("tag", []), ""),
        (label("tag", [{"score": 0.9}]), ""),
        (label("tag", None), ""),
        (label("sentiment", "positive", scores={"positive": 0.9}), ""),
        (label("embed", [0.5, 0.5]), ""),
    ],
)
def test_words(made: Label, text: str) -> None:
    assert text_of(made) == text
