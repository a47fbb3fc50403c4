"""Languages of short texts, as comments are: what a model may read, and what it must leave alone."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import WeightsMismatch
from models.media import language
from models.media.language import LANGUAGES, detect

pytestmark = pytest.mark.models

FOREIGN = {
    "de": (
        "Das ist schön",
        "Schlecht",
        "So schlecht war der Film noch nie",
        "Der Stadtrat stimmt am Dienstag ab",
    ),
    "fr": ("très bon", "Le service était lent et la nourriture froide", "Le conseil vote mardi"),
    "es": ("La comida estaba fría", "Muy recomendable", "El ayuntamiento vota el martes"),
    "it": ("Un film meraviglioso", "Non tornerò mai più"),
    "pt": ("O filme é péssimo", "O concerto foi maravilhoso"),
    "pl": ("Bardzo dobry film", "Obsługa była powolna"),
    "tr": ("Çok güzel bir film",),
    "id": ("Filmnya membosankan",),
    "vi": ("Bộ phim rất hay",),
    "zh": ("今天很好", "这家酒店很差", "我喜欢 iPhone 的相机"),
    "ja": ("素晴らしい映画", "つまらない"),
    "ko": ("정말 좋아요",),
    "ru": ("Очень плохо",),
    "uk": ("Дуже погано, більше не прийду",),
    "ar": ("كان الفيلم رائعا والموسيقى جميلة",),
    "he": ("סרט נפלא",),
    "el": ("Υπέροχη ταινία",),
    "hi": ("बहुत अच्छी फिल्म",),
    "th": ("หนังดีมาก",),
}
ENGLISH = (
    "bad",
    "ok",
    "yes , dull",
    "it 's fun lite",
    "as vulgar as it is banal",
    "a warm , funny , engaging film",
    "even on those rare occasions when the narrator stops yammering , miller 's hand often feels unsure",
    "The mayor said 你好 to the guests from Beijing.",
)


@pytest.mark.parametrize(
    ("code", "text"), [(code, text) for code, texts in FOREIGN.items() for text in texts]
)
def test_a_foreign_text_is_named_and_not_for_an_english_model(code: str, text: str) -> None:
    found = detect(text)
    assert found.code == code
    assert not found.readable({"en"}) and found.readable({"en", code}) and found.readable(None)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_never_refused_however_odd(text: str) -> None:
    assert detect(text).readable({"en"})


@pytest.mark.parametrize("text", ["👍👍", "12345", "?!…", "❤️ 10/10"])
def test_a_text_without_letters_is_for_no_model(text: str) -> None:
    found = detect(text)
    assert (found.code, found.letters) == (None, False)
    assert not found.readable(None) and not found.readable({"en"})


def test_what_the_sender_declared_counts_where_the_text_does_not_say() -> None:
    assert detect("lol").code is None
    assert detect("lol", "de-AT").code == "de"
    assert detect("lol", "tlh").code is None
    assert detect("Das ist schön", "en").code == "de"


def test_a_long_text_is_read_in_part_and_many_at_once_agree() -> None:
    long = "Der Stadtrat stimmt am Dienstag über den neuen Haushalt ab. " * 4000
    texts = [long, *(text for texts in FOREIGN.values() for text in texts), *ENGLISH]
    alone = [detect(text).code for text in texts]
    assert alone[0] == "de"
    with ThreadPoolExecutor(8) as pool:
        assert [found.code for found in pool.map(detect, texts * 2)] == alone * 2


def test_every_language_is_one_that_lingua_knows_by_its_code() -> None:
    assert len(set(LANGUAGES)) == len(LANGUAGES) == 32
    assert detect("Filmen var fantastisk, og maten var god").code in ("nb", "da")


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(WeightsMismatch, match=r"install headrace\[media\]"):
        language._builder()
