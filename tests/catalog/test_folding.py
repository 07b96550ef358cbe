"""Names are found however they are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog.folding import fold, folded_words


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("Hélène", "helene"),
        ("HELENE", "helene"),
        ("CÔTÉ-LÉVESQUE^Hélène", "cote levesque helene"),
        ("He\u0301le\u0300ne", "helene"),
        ("Lebœuf^Æmilia", "leboeuf aemilia"),
        ("L'Écuyer^Noël^^Dr", "l ecuyer noel dr"),
        ("ﬁlion", "filion"),
        ("Weiß", "weiss"),
        ("ŁUKASZ Ødegård", "lukasz odegard"),
        ("Yamada^Tarou=山田^太郎", "yamada tarou 山田 太郎"),
        ("  A--1_2  ", "a 1 2"),
        ("^^^^", ""),
        ("", ""),
    ],
)
def test_case_accents_and_punctuation_do_not_count(written: str, folded: str) -> None:
    assert fold(written) == folded


@given(st.text())
def test_folding_is_stable_and_leaves_only_words(text: str) -> None:
    once = fold(text)
    assert fold(once) == once
    assert once == " ".join(once.split())
    assert all(each.isalnum() or each == " " for each in once)


@given(st.text(st.characters(codec="cp1252")))
def test_case_does_not_count(text: str) -> None:
    assert fold(text.upper()) == fold(text.lower())


def test_wildcards_of_any_kind_are_not_words() -> None:
    assert folded_words("%_*?\\'\"") == ()
    assert folded_words("Côté*  50%") == ("cote", "50")
