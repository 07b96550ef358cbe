"""Which passwords are accepted, that they count as typed, and that a flood of slow hashing is turned away."""

import string
import threading

import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from appliance.errors import Refused, Transient
from appliance.identity import passwords

PHRASE = "Quatre lapins, une horloge"


def test_a_flood_is_told_to_come_back_at_once_and_afterwards_all_is_well() -> None:
    inside, leave = threading.Barrier(passwords.AT_ONCE + 1), threading.Event()

    def hold() -> None:
        with passwords._Turn():
            inside.wait(30)
            leave.wait(30)

    holders = [threading.Thread(target=hold) for _ in range(passwords.AT_ONCE)]
    for each in holders:
        each.start()
    inside.wait(30)
    queue = [passwords._queue.acquire(blocking=False) for _ in range(passwords.WAITING)]
    assert all(queue)
    with pytest.raises(Transient, match="too many"):
        passwords.hash_password("quatre lapins sur une horloge")
    with pytest.raises(Transient, match="too many"):
        is_accepted("quatre lapins sur une horloge")  # estimating takes a core too
    for _ in queue:
        passwords._queue.release()
    leave.set()
    for each in holders:
        each.join(30)
    kept = passwords.hash_password("quatre lapins sur une horloge")
    assert passwords.verify_password(kept, "quatre lapins sur une horloge")


def test_parameters_are_those_of_rfc_9106_for_little_memory(
    monkeypatch: pytest.MonkeyPatch, quick_passwords: PasswordHasher
) -> None:
    monkeypatch.setattr(passwords, "_hasher", quick_passwords)  # what was there before: the product's own
    kept = passwords.hash_password("quatre lapins sur une horloge")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=1$")


# --- what is accepted ------------------------------------------------------------------------------------------------


def is_accepted(password: str) -> bool:
    try:
        passwords.check_password(password, login="mtremblay", name="Marie Tremblay")
    except Refused:
        return False
    return True


def test_every_password_known_from_breaches_is_refused_however_it_is_dressed_up() -> None:
    breached = FREQUENCY_LISTS["passwords"]
    assert len(breached) >= 30_000
    long_enough = [each for each in breached if len(each) >= passwords.LEAST_CHARACTERS]
    assert len(long_enough) > 200
    for each in long_enough:
        assert not is_accepted(each), each
        assert not is_accepted(each.upper()), each
    for each in breached[:300]:
        assert not is_accepted(each.ljust(passwords.LEAST_CHARACTERS, "1")), each


@pytest.mark.parametrize(
    "password",
    [
        "iloveyou1234567",
        "1qaz2wsx3edc4rfv",
        "qwertyuiopasdfgh",
        "P@ssw0rd P@ssw0rd",
        "Bonjour123456!",
        "football baseball",
        "tremblay tremblay1",
        "Marie Tremblay 2026",
        "clinique dentaire 1",
        "dental clinic 2026",
        "abcabcabcabcabcabc",
    ],
)
def test_what_is_made_of_guessable_pieces_is_refused(password: str) -> None:
    assert not is_accepted(password)


@pytest.mark.parametrize(
    "password",
    [
        "quatre lapins sur une horloge",
        "vélo chaise orage pomme",
        "xkqw vbnt mzrp",
        "gT7#pQ2!vR9w",
        "雨伞 月亮 自行车 蓝色的 大树",
    ],
)
def test_a_few_unrelated_words_or_chance_are_accepted_without_any_rule_about_characters(
    password: str,
) -> None:
    assert is_accepted(password)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300))
def test_no_typing_breaks_the_judgement(password: str) -> None:
    if is_accepted(password):
        assert passwords.LEAST_CHARACTERS <= len(passwords._as_typed(password)) <= passwords.MOST_CHARACTERS


def test_a_long_password_is_judged_by_a_part_of_it_and_used_whole() -> None:
    long = "quatre lapins sur une horloge, et " * 5
    assert len(long) > 160
    assert is_accepted(long)
    kept = passwords.hash_password(long)
    assert passwords.verify_password(kept, long)
    assert not passwords.verify_password(kept, long[:-1])


def test_only_so_much_is_estimated_because_signs_that_stand_for_letters_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import zxcvbn

    seen: list[str] = []
    estimate = zxcvbn.zxcvbn

    def listening(text: str, user_inputs: list[str]) -> dict[str, object]:
        seen.append(text)
        return dict(estimate(text, user_inputs=user_inputs))

    monkeypatch.setattr(zxcvbn, "zxcvbn", listening)
    is_accepted("7(+[69|99<!{%<+(|<6++3{280@76@@%3@!8[[<<%@5%%54|$@+353(0|[@5%19!47017$$!")
    assert len(seen) == 1
    assert len(seen[0]) <= 24


# --- what is typed is what counts ------------------------------------------------------------------------------------


def test_case_spaces_and_every_character_count() -> None:
    kept = passwords.hash_password(PHRASE)
    assert passwords.verify_password(kept, PHRASE)
    for other in (
        PHRASE.lower(),
        PHRASE.swapcase(),
        f" {PHRASE}",
        f"{PHRASE} ",
        PHRASE.replace(" ", ""),
        PHRASE + "x" * 900,
    ):
        assert not passwords.verify_password(kept, other), other


def test_characters_that_look_different_are_different() -> None:
    kept = passwords.hash_password("ﬁve lapins ① ½ horloge")
    assert not passwords.verify_password(kept, "five lapins 1 1⁄2 horloge")
    assert len({passwords._as_typed(each) for each in string.printable}) == len(string.printable)


def test_an_accented_letter_is_one_however_the_keyboard_sends_it() -> None:
    kept = passwords.hash_password("he\u0301le\u0300ne aime 9")
    assert passwords.verify_password(kept, "h\u00e9l\u00e8ne aime 9")
    assert not passwords.verify_password(kept, "helene aime 9")
