"""What names a patient is found however it is written, and what doesn't is left alone."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.fleet.markers import Markers

KNOWN = [
    ("name", "TREMBLAY^Marie-Ève^^Dr"),
    ("id", "QC-00412/7"),
    ("birth_date", "19800512"),
    ("accession", "ACC2026000031"),
    ("name", "Lebœuf^Hélène"),
    ("name", "Li^Wei"),
    ("name", "山田^太郎"),
    ("id", "12"),
]
MARKERS = Markers(KNOWN, ["quatre lapins sur une horloge"])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("the film of tremblay came", "name"),
        ("Marie Eve Tremblay", "name"),
        ("marie-\u00e8ve", "name"),
        ("marie-e\u0300ve", "name"),
        ("LEBOEUF", "name"),
        ("helene", "name"),
        ("li wei", "name"),
        ("LiWei", "name"),
        ("山田", "name"),
        ("file QC_00412_7.dcm", "id"),
        ("qc004127", "id"),
        ("1980-05-12", "birth_date"),
        ("born 19800512", "birth_date"),
        ("12/05/1980", "birth_date"),
        ("05.12.1980", "birth_date"),
        ("acc 2026000031", "accession"),
        ("said quatre lapins sur une horloge twice", "secret"),
        ("NOBODY^Known", "shape"),
        ("TREB 8005 1218", "health_number"),
        ("study 1.2.826.0.1.3680043.8.498.1", "uid"),
        ("to marie@clinique.example", "mail"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", "secret"),
        ('{"password": "hunter2hunter2"}', "secret"),
        ("Authorization: Bearer abc.def", "secret"),
        ("key AKIAIOSFODNN7EXAMPLE", "secret"),
    ],
)
def test_a_marker_is_found_in_every_writing(text: str, kind: str) -> None:
    left, counted = MARKERS.cut(text)
    assert counted[kind] >= 1
    assert f"[cut: {kind}]" in left
    for piece in (
        "tremblay",
        "leboeuf",
        "00412",
        "1980",
        "lapins",
        "hunter2",
        "AKIA",
        "MC4CAQ",
        "@",
        "abc.def",
    ):
        assert piece not in left.lower()


@pytest.mark.parametrize(
    "written",
    [
        r"L\u00e9vesque", r"L\u00E9vesque", r"Le\u0301vesque", r"L\xe9vesque", r"L\xc3\xa9vesque", "L%C3%A9vesque",
        "l%E9vesque", "L&eacute;vesque", "L&#233;vesque", r"L\\u00e9vesque", "L%25C3%25A9vesque",
        r"said:\nlevesque", r'{\"LEVESQUE\"}', r"\u004c\u00e9vesque", "%4c%c3%a9vesque",
    ],
)  # fmt: skip
def test_a_line_that_names_somebody_in_escapes_is_cut_whole(written: str) -> None:
    markers = Markers([("name", "Lévesque^Zoé")])
    left, counted = markers.cut(f"one\nfound {written} here\nthree % 100%25 \\u0041")
    assert left.startswith("one\n")
    assert left.endswith("\nthree % 100%25 \\u0041")
    assert "vesque" not in left.lower()
    assert counted["name"] == 1
    assert markers.cut(left) == (left, {})


NUMBERS = [
    ("id", "0001234567"),
    ("id", "QC-00412/7"),
    ("accession", "00054321"),
    ("id", "7654321"),
    ("id", "0002026"),
]


@pytest.mark.parametrize(
    "number",
    ["1234567", "0001234567", "QC-412/7", "qc4127", "54321", "000054321", "07654321", "0002026"],
)
def test_a_number_is_found_with_and_without_the_zeros_that_fill_it_up(number: str) -> None:
    left, counted = Markers(NUMBERS).cut(f"the images of {number}, since noon")
    assert left in (f"the images of [cut: {kind}], since noon" for kind in ("id", "accession"))
    assert sum(counted.values()) == 1


@pytest.mark.parametrize(
    "text", ["since 2026-11-29", "12-34-567 images", "at 5:43:21", "of 12345670", "QC 412", "CT1"]
)
def test_a_number_without_its_zeros_is_not_put_together_of_others(text: str) -> None:
    known = Markers([*NUMBERS, ("id", "0000001129"), ("id", "CT0001")])
    assert known.cut(text) == (text, {})


@pytest.mark.parametrize(
    "date",
    [
        "5/12/1980", "12/5/1980", "12.5.1980", "5 - 12 - 1980", "12 5 1980", "1980/5/12", "1980-5-12", "05/12/80", "12-5-80",
        "80-05-12", "le 12 mai 1980", "12 mai 80", "12-MAY-1980", "12MAY1980", "12 de mai 1980", "12th of May 1980",
        "May 12, 1980", "May 12th, 1980", "mai 12 1980", "1980 May 12", "1980-mai-12", "12 mai, 1980",
    ],
)  # fmt: skip
def test_a_birth_date_is_found_as_people_write_it(date: str) -> None:
    left, counted = Markers([("birth_date", "19800512")]).cut(f"born {date}; images wait")
    assert counted == {"birth_date": 1}
    assert left.removeprefix("born ").removeprefix("le ") == "[cut: birth_date]; images wait"


@pytest.mark.parametrize(
    ("born", "text"),
    [
        ("19791201", "1er décembre 1979"),
        ("19791201", "1 de\u0301c. 1979"),
        ("19790831", "31 août 1979"),
        ("19790831", "31 AOUT 79"),
        ("19790203", "3 févr. 1979"),
        ("19790203", "February 3rd, 1979"),
        ("19790203", "Feb. 3 1979"),
        ("19790922", "sept. 22nd 1979"),
        ("20010203", "3/2/01"),
        ("20010203", "version 1/2/13/3/2/2001"),
    ],
)
def test_months_are_read_in_both_languages_and_dates_within_other_numbers(born: str, text: str) -> None:
    known = Markers([("birth_date", born)])
    left, counted = known.cut(text)
    assert counted == {"birth_date": 1}
    assert known.cut(left) == (left, {})


@pytest.mark.parametrize(
    "text",
    [
        "5/13/1980", "12 juin 1980", "12 mai 1981", "5121980 bytes", "12.05.80", "address 10.12.5.80", "80:05:12",
        "12 marks 1980", "112 mai 1980", "12 mai 19801", "800512", "12 mai", "5/12",
    ],
)  # fmt: skip
def test_what_is_no_birth_date_stays(text: str) -> None:
    assert Markers([("birth_date", "19800512")]).cut(text) == (text, {})


@pytest.mark.parametrize(
    "text",
    [
        "王小東 images",
        "王 小東",
        "小東王",
        "患者王小東的影像",
        "小東",
        "Wang Xiao Dong",
        "xiaodong wang",
        "王^小東",
    ],
)
def test_a_name_in_several_writings_is_found_in_each(text: str) -> None:
    left, counted = Markers([("name", "Wang^XiaoDong=王^小東=")]).cut(text)
    assert sum(counted.values()) == 1
    assert not {*"王小東"} & set(left)
    assert "ong" not in left


def test_what_hides_behind_another_is_found_at_once() -> None:
    known = Markers([("birth_date", "19800512")])
    assert known.cut("19800512TREM80051218")[0] == "[cut: birth_date][cut: health_number]"


@pytest.mark.parametrize(
    "text", ["5/12/1980token: \nx y", "12 mai 1980cookie\n: x y", "12 mai 1980PASSWORD = x y"]
)
def test_what_is_cut_away_before_the_word_of_a_secret_lets_no_second_look_find_it(text: str) -> None:
    known = Markers([("birth_date", "19800512")])
    left, _ = known.cut(text)
    assert "x" not in left
    assert known.cut(left) == (left, {})


@pytest.mark.parametrize(
    "text",
    [
        "12 deliveries returned to the queue",
        "the clock was set by +12 s",
        '{"at_utc": "2026-03-01T12:00:00.000+00:00", "level": "INFO", "process": "dicom-0"}',
        "transfer syntax 1.2.840.10008.1.2.4.50",
        "tremblaying",
        "listening on 192.168.1.40:11112",
        "line one ends with li\nwu",
    ],
)
def test_what_names_nobody_stays(text: str) -> None:
    known = Markers([("name", "TREMBLAY^Luc"), ("name", "Li^Wu"), ("id", "12")])
    assert known.cut(text) == (text, {})


def test_what_is_too_short_to_be_looked_for_is_counted() -> None:
    assert Markers([("id", "12"), ("name", "Li^Wu")]).too_short == 3
    assert len(Markers([("id", "")])) == 0
    assert Markers([("id", "")]).too_short == 0


@given(
    st.lists(st.tuples(st.sampled_from(["name", "id", "accession"]), st.text(max_size=20)), max_size=6),
    st.text(max_size=200),
)
def test_nothing_is_left_after_the_first_look(known: list[tuple[str, str]], text: str) -> None:
    markers = Markers(known)
    for mixed in (text, text.join(each for _, each in known)):
        left, _ = markers.cut(mixed)
        assert markers.cut(left) == (left, {})


@given(
    st.dates(min_value=date(1900, 1, 1), max_value=date(2040, 1, 1)),
    st.text(alphabet="0123456789/.- maiy", max_size=60),
)
def test_nothing_is_left_of_a_birth_date_after_the_first_look(born: date, text: str) -> None:
    markers = Markers([("birth_date", f"{born:%Y%m%d}"), ("id", "0001234")])
    for mixed in (text, f"{born.day}/{born.month}/{born.year}".join((text, text))):
        left, _ = markers.cut(mixed)
        assert markers.cut(left) == (left, {})


@given(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyzéèœ", min_size=3, max_size=12),
    st.text(" ,;:(\n", min_size=1, max_size=3),
)
def test_a_name_among_other_words_is_always_found(name: str, between: str) -> None:
    left, counted = Markers([("name", name)]).cut(f"0{between}{name.upper()}{between}0")
    assert counted == {"name": 1}
    assert left == f"0{between}[cut: name]{between}0"


def test_a_hundred_thousand_patients_are_looked_for_in_one_pass() -> None:
    markers = Markers(("name", f"FAMILY{chr(97 + n % 26)}{n}^Given{n}") for n in range(100_000))
    left, counted = markers.cut("an event of the courier\n" * 2000 + "familyb1 was seen\n")
    assert counted == {"name": 1}
    assert left.endswith("[cut: name] was seen\n")
