import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tasks.core.search.words import LONGEST, Vocabulary, stem, terms_of, wanted, words


def vocabulary(*texts: str, language: str = "en") -> Vocabulary:
    made = Vocabulary()
    for text in texts:
        made.add(text, language)
    return made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The red CIRCLE, jumps!", ["the", "red", "circle", "jumps"]),
        ("Crème brûlée – don't", ["creme", "brulee", "dont"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("東京タワー 2026", ["東", "京", "タ", "ワ", "2026"]),
        ("a_b;DROP TABLE--", ["a", "b", "drop", "table"]),
        ("<script>\x00&amp;", ["script", "amp"]),
        ("", []),
        ("x" * 100, ["x" * LONGEST]),
    ],
)
def test_words_are_folded(text: str, found: list[str]) -> None:
    assert [word for word in words(text) if word != "ー"] == found


@pytest.mark.parametrize(
    "word",
    ["किताब", "দিন", "বাংলা", "புத்தகம்", "తెలుగు", "മലയാളം", "ಕನ್ನಡ", "සිංහල", "संस्कृतम्", "번역을",
     "საქართველო", "שלום", "العربية"],
)  # fmt: skip
def test_signs_that_combine_are_part_of_their_word(word: str) -> None:
    assert words(word) == words(f"« {word} »") == words(unicodedata.normalize("NFD", word))
    assert len(words(word)) == 1
    letters = [c for c in unicodedata.normalize("NFC", word) if unicodedata.category(c) == "Lo"]
    assert len(words(word)[0]) >= len(letters)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("दिन", "दान"),
        ("कल", "कला"),
        ("क्या", "कया"),
        ("ปี", "ปู"),
        ("がき", "かき"),
        ("мой", "мои"),
    ],
)
def test_signs_that_tell_words_apart_are_no_accents(one: str, other: str) -> None:
    assert words(one) != words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("می\u200cخواهم", "میخواهم"),
        ("مُحَمَّد", "محمد"),
        ("שָׁלוֹם", "שלום"),
        ("ज़रूर", "जरूर"),
        ("ｶﾞｽ", "ガス"),
        ("soft\u00adhyphen", "softhyphen"),
        ("Ёлка", "елка"),
    ],
)
def test_accents_points_and_joiners_do_not_tell_words_apart(one: str, other: str) -> None:
    assert words(one) == words(other)


def test_in_scripts_without_spaces_a_character_keeps_its_signs() -> None:
    assert words("ปีนี้ที่") == ["ปี", "นี้", "ที่"]
    assert words("ខ្មែរabc") == ["ខ្", "មែ", "រ", "abc"]


@pytest.mark.parametrize(
    "form",
    ["번역을", "번역이", "번역은", "번역의", "번역에서", "번역에서는", "번역으로", "번역까지도",
     "번역입니다", "번역들을", "번역과"],
)  # fmt: skip
@pytest.mark.parametrize("language", ["ko", "en", None])
def test_korean_particles_do_not_tell_words_apart(form: str, language: str | None) -> None:
    assert terms_of(form, language) == ["번역"]


@pytest.mark.parametrize("word", ["마을", "가을", "국가", "나이", "회의", "도로", "지도", "이", "의", "서울", "한국어"])
def test_what_only_looks_like_a_korean_particle_stays(word: str) -> None:
    assert terms_of(word, "ko") == [word]
    assert terms_of(f"{word}에서", "ko") == [word]


def test_stems_of_every_language_of_the_stemmers_are_stable_enough_to_meet() -> None:
    for one, other, language in (("красный", "красная", "ru"), ("किताबें", "किताबों", "hi"), ("புத்தகங்கள்", "புத்தகம்", "ta")):
        assert terms_of(one, language) == terms_of(other, language), language


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [("running", "runs", "en"), ("circles", "circle", "en"), ("häuser", "hause", "de"), ("chantait", "chanter", "fr")],
)
def test_forms_of_a_word_have_one_stem(one: str, other: str, language: str) -> None:
    assert terms_of(one, language) == terms_of(other, language)


def test_threads_do_not_disturb_each_other() -> None:
    texts = [f"running{at} houses{at} relational{at} nationally{at}" for at in range(2000)]
    stem.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: terms_of(text, "en"), texts))
    stem.cache_clear()
    assert together == [terms_of(text, "en") for text in texts]


def test_a_language_without_a_stemmer_keeps_its_words() -> None:
    assert stem("running", "xx") == "running"
    assert stem("running", None) == stem("running", "en") == "run"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("cirlce", "circle"), ("circel", "circle"), ("sqaure", "square"), ("runing", "running"), ("elefant", "elephant")],
)
def test_a_word_that_no_text_has_is_taken_for_a_typo(typed: str, meant: str) -> None:
    known = vocabulary("a circle and a square", "running", "an elephants trunk elephant")
    assert max(known.expand(typed).items(), key=lambda entry: entry[1])[0] == stem(meant, "en")
    assert 0 < max(known.expand(typed).values()) < 1


def test_a_word_that_some_text_has_is_taken_as_it_is() -> None:
    assert vocabulary("a star", "a stir").expand("star") == {"star": 1.0}


def test_words_with_signs_are_mended_as_well() -> None:
    known = Vocabulary()
    known.add("पुस्तकालय बड़ा है", "hi")
    assert known.expand("पुस्तकलय")


@pytest.mark.parametrize("typed", ["cra", "1235", "zzzzzz", ""])
def test_short_words_numbers_and_strangers_stand_for_nothing(typed: str) -> None:
    assert vocabulary("car 1234 circle").expand(typed) == {}


def test_counting_out_leaves_nothing() -> None:
    made = vocabulary("one two two", "two three")
    for text in ("one two two", "two three"):
        made.add(text, "en", -1)
    assert (made.entries, made.stems, made.texts, made.length) == ({}, {}, 0, 0)


def score(text: str, *loose: str, phrases: tuple[str, ...] = ()) -> float | None:
    known = vocabulary("the red circle jumps over a blue square", "green", "a circle", text)
    asked = wanted(loose, [words(phrase) for phrase in phrases], known)
    return asked.score(terms_of(text, "en")) if asked else None


def test_all_of_two_words_and_two_thirds_of_more_are_needed() -> None:
    assert score("a red square", "red", "circle") is None
    assert score("a red square", "red", "square")
    assert score("a red square", "red", "square", "jumps")
    assert score("a red square", "red", "circle", "jumps") is None


def test_stop_words_are_not_needed_unless_there_is_nothing_else() -> None:
    assert score("red circle", "the", "red", "circle")
    assert score("over the hill", "the")
    assert score("red", "the") is None


def test_a_phrase_is_a_row_of_stems() -> None:
    assert score("two red circles", phrases=("red circle",))
    assert score("red and circle", phrases=("red circle",)) is None
    assert score("circle red", phrases=("red circle",)) is None
    assert score("red circle", phrases=("red cirlce",)) is None
    assert score("red circle jumps", "jump", phrases=("red circle",))
    assert score("red circle", "jump", phrases=("red circle",)) is None


def test_rare_words_short_texts_and_exact_words_count_more() -> None:
    known = vocabulary("rare common", *["common"] * 20)
    asked = [wanted([word], [], known) for word in ("rare", "common")]
    scores = [each.score(["rare", "common"]) for each in asked if each]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    lengths = [score(" ".join(["circle", *["word"] * count]), "circle") or 0.0 for count in (0, 3, 9)]
    assert all(shorter > longer for shorter, longer in pairwise(lengths))
    assert (score("circle", "circle") or 0) > (score("circle", "cirlce") or 0) > 0


def test_a_word_of_any_language_of_the_corpus_is_found() -> None:
    known = vocabulary("die Häuser", language="de")
    known.add("the house", "en")
    asked = wanted(["häusern"], [], known) or wanted(words("häusern"), [], known)
    assert asked is not None
    assert asked.score(terms_of("die Häuser", "de"))
