"""Tables that can be read and never drive a terminal; JSON that any script can read."""

import io
import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from appliance.cli.listing import as_json, as_table, date, person_name, safe, size


def table(rows: list[dict[str, object]]) -> list[str]:
    out = io.StringIO()
    as_table({"name": "NAME", "count": "COUNT"}, rows, empty="nothing", out=out)
    return out.getvalue().splitlines()


def test_columns_are_aligned_and_numbers_set_to_the_right() -> None:
    lines = table([{"name": "Hélène", "count": 7}, {"name": "Zoé Desrosiers", "count": 1200}])
    assert lines == ["NAME            COUNT", "Hélène              7", "Zoé Desrosiers   1200"]


def test_a_decomposed_accent_takes_one_column() -> None:
    assert table([{"name": "He\u0301le\u0300ne", "count": 1}])[1] == "Hélène      1"


def test_an_empty_table_is_a_sentence() -> None:
    assert table([]) == ["nothing"]


def test_an_absent_value_is_a_dash() -> None:
    assert table([{"name": "", "count": None}])[1].split() == ["-", "-"]


@given(st.text())
def test_no_text_of_a_peer_reaches_the_terminal_with_control_characters(text: str) -> None:
    (line,) = table([{"name": text, "count": 1}])[1:]
    assert line.isprintable()
    assert safe(text).isprintable()


@given(st.dictionaries(st.text(), st.text()))
def test_json_gives_back_what_was_put_in_whatever_the_encoding(value: dict[str, str]) -> None:
    for encoding in ("utf-8", "ascii"):
        raw = io.BytesIO()
        out = io.TextIOWrapper(
            raw, encoding=encoding, errors="surrogatepass" if encoding == "utf-8" else "strict"
        )
        as_json(value, out)
        out.flush()
        assert json.loads(raw.getvalue()) == value


def test_json_writes_moments_in_utc() -> None:
    out = io.StringIO()
    as_json([{"at": datetime(2026, 3, 2, 9, 30, tzinfo=UTC)}], out)
    assert json.loads(out.getvalue()) == [{"at": "2026-03-02T09:30:00+00:00"}]


def test_dicom_values_are_shown_as_people_write_them() -> None:
    assert person_name("Côté-Lévesque^Hélène^^Dre") == "Côté-Lévesque, Hélène"
    assert person_name("LEGAULT") == "LEGAULT"
    assert person_name("Yamada^Tarou=山田^太郎") == "Yamada, Tarou"
    assert person_name("=山田^太郎=やまだ^たろう") == "山田, 太郎"
    assert person_name("^^^^==") == ""
    assert date("19781124") == "1978-11-24"
    assert date("about 1978") == "about 1978"
    assert [size(count) for count in (0, 999, 1500, 25_000_000, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "25.0 MB",
        "3.0 TB",
    ]
