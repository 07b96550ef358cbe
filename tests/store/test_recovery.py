"""The recovery key as people type it: what is read leniently, what is refused, and how exactly."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.store.recovery import RecoveryKey

VECTORS = Path(__file__).parent / "vectors" / "recovery.json"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

keys = st.binary(min_size=20, max_size=20).map(RecoveryKey)


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text())["vectors"])
def test_vectors_print_and_parse(vector: dict[str, str]) -> None:
    key = RecoveryKey(bytes.fromhex(vector["secret"]))
    assert str(key) == vector["text"]
    assert RecoveryKey.parse(vector["text"]) == key


@given(keys)
def test_what_is_printed_is_read_back(key: RecoveryKey) -> None:
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{5}-){8}[0-9A-HJKMNP-TV-Z]{5}", str(key))
    assert RecoveryKey.parse(str(key)) == key


@given(keys, st.data())
def test_case_spaces_dashes_and_lookalikes_do_not_matter(key: RecoveryKey, data: st.DataObject) -> None:
    lookalikes = {"0": "0Oo", "1": "1IiLl"}
    separators = st.sampled_from(["", "-", " ", "  ", "\n", "–", "—", "\u00a0", " - "])
    typed = data.draw(separators)
    for symbol in str(key).replace("-", ""):
        typed += data.draw(st.sampled_from(lookalikes.get(symbol, symbol + symbol.lower())))
        typed += data.draw(separators)
    assert RecoveryKey.parse(typed) == key


@given(keys, st.integers(0, 44), st.sampled_from([*ALPHABET, "U", "?", "é"]))
def test_one_wrong_character_names_exactly_its_group(key: RecoveryKey, place: int, wrong: str) -> None:
    symbols = str(key).replace("-", "")
    if symbols[place] == wrong:
        return
    with pytest.raises(Refused) as refused:
        RecoveryKey.parse(symbols[:place] + wrong + symbols[place + 1 :])
    assert refused.value.message == f"group {place // 5 + 1} of the recovery key is mistyped"


@given(keys, st.integers(1, 9), st.integers(0, 4), st.integers(0, 4))
def test_two_exchanged_characters_name_their_group(
    key: RecoveryKey, number: int, one: int, other: int
) -> None:
    groups = str(key).split("-")
    symbols = list(groups[number - 1])
    if symbols[one] == symbols[other]:
        return
    symbols[one], symbols[other] = symbols[other], symbols[one]
    groups[number - 1] = "".join(symbols)
    with pytest.raises(Refused, match=f"^group {number} of"):
        RecoveryKey.parse("-".join(groups))


@given(keys, st.integers(0, 8), st.integers(0, 8))
def test_exchanged_groups_are_both_named(key: RecoveryKey, one: int, other: int) -> None:
    groups = str(key).split("-")
    if one == other:
        return
    groups[one], groups[other] = groups[other], groups[one]
    with pytest.raises(Refused, match=f"^groups {min(one, other) + 1}, {max(one, other) + 1} of"):
        RecoveryKey.parse("-".join(groups))


@given(keys, st.integers(1, 9), st.sampled_from(["", "4", "4J7Q", "4J7QXX"]))
def test_a_group_of_the_wrong_length_is_named(key: RecoveryKey, number: int, typed: str) -> None:
    groups = str(key).split("-")
    groups[number - 1] = typed or "X"
    with pytest.raises(Refused, match=f"^group {number} of .* every group has 5 characters"):
        RecoveryKey.parse("-".join(groups))


@pytest.mark.parametrize(
    ("typed", "count"), [("", 0), ("   ", 0), ("hello", 5), ("0" * 44, 44), ("0" * 5000, 5000)]
)
def test_what_is_much_too_short_or_long_says_how_long_it_should_be(typed: str, count: int) -> None:
    with pytest.raises(Refused, match=f"has 45 characters in 9 groups, {count} were typed"):
        RecoveryKey.parse(typed)


def other_groups_that_pass(number: int, group: str) -> list[str]:
    """Other spellings of group `number` that its check symbol lets pass, found by trying."""
    found = []
    for third in ALPHABET:
        for check in ALPHABET:
            spelt = group[:2] + third + group[3] + check
            groups = str(RecoveryKey(bytes(20))).split("-")
            groups[number - 1] = spelt
            try:
                RecoveryKey.parse("-".join(groups))
            except Refused as refused:
                if "more than one place" in refused.message and spelt != group:
                    found.append(spelt)
    return found


def test_two_wrong_characters_that_a_group_misses_are_caught_by_the_whole() -> None:
    groups = str(RecoveryKey(bytes(20))).split("-")
    passing = other_groups_that_pass(3, groups[2])
    assert len(passing) == 31  # one check symbol in 32 agrees for each of 31 other characters


@given(keys, st.text(max_size=60))
def test_a_refusal_never_repeats_what_was_typed(key: RecoveryKey, text: str) -> None:
    groups = str(key).split("-")
    groups[4] = "ZZZZZ" if groups[4] != "ZZZZZ" else "YYYYY"
    for typed in ("-".join(groups), text):
        try:
            RecoveryKey.parse(typed)
        except Refused as refused:
            assert not any(group in str(refused) for group in groups)


def test_two_keys_differ_and_neither_shows_itself() -> None:
    one, other = RecoveryKey.generate(), RecoveryKey.generate()
    assert one != other
    assert repr(one) == "<RecoveryKey>"
    with pytest.raises(TypeError):
        pickle.dumps(one)


@pytest.mark.parametrize("size", [0, 19, 21])
def test_a_secret_of_another_length_is_a_defect(size: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        RecoveryKey(bytes(size))
