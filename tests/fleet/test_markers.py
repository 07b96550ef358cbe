"""What names a patient is found however it is written, and what doesn't is left alone."""

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
