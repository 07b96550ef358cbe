"""Any edit, removal, reordering or truncation of the audit is found, and so is a roll-back of everything."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import audit
from appliance.audit import Entry, Flaw, Witness
from appliance.audit.chain import findings, head_mac, row_chain
from appliance.catalog import Catalog, Transaction, audit_log
from appliance.catalog.audit_log import AuditHead, AuditRow
from appliance.errors import Refused
from tests.catalog.arrivals import NOW

KEY = bytes(range(32))
ROWS = 6
COLUMNS = tuple(name for name in AuditRow.__slots__ if name != "id")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with an audit of six rows, written in three transactions."""
    opened = Catalog.open(tmp_path / "catalog.db", KEY)
    for start in range(0, ROWS, 2):
        with opened.transaction() as tx:
            audit.append(tx, KEY, [_entry(start + 1), _entry(start + 2)], NOW + timedelta(seconds=start))
    yield opened
    opened.close()


def _entry(number: int) -> Entry:
    return Entry(
        "instance:receive",
        f"instance:{number}",
        "dicom:CT1",
        {"intake": "a"},
        study=f"1.2.{number}",
        address="10.0.0.7",
    )


class _RollBack(Exception):
    """Ends a transaction whose changes must not stay."""


def _tampered(
    catalog: Catalog, *statements: tuple[str, tuple[Any, ...]], witness: Witness | None = None
) -> list[str]:
    """What is found after `statements`; none of them stays."""
    found: list[str] = []
    try:
        with catalog.transaction() as tx:
            for statement, values in statements:
                tx.exec_driver_sql(statement, values)
            found = [each.flaw for each in audit.verify(tx, KEY, witness)]
            raise _RollBack
    except _RollBack:
        return found


def _rows(tx: Transaction) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in tx.exec_driver_sql("SELECT * FROM audit ORDER BY id")]


def test_what_was_written_is_whole(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        assert audit.verify(reading, KEY) == []
        assert audit.verify(reading, KEY, audit.witness(reading)) == []
        assert audit.verify(reading, KEY, Witness(0, bytes(32))) == []


def test_a_new_box_has_an_empty_whole_audit(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "new.db", KEY)
    with catalog.reading() as reading:
        assert audit.verify(reading, KEY) == []
        assert audit.witness(reading) == Witness(0, bytes(32))
        assert list(audit.export(reading)) == []
    catalog.close()


def test_another_key_finds_every_row_wrong(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        assert len(audit.verify(reading, bytes(32))) == ROWS + 1


@pytest.mark.parametrize("row", range(1, ROWS + 1))
@pytest.mark.parametrize("column", COLUMNS)
def test_every_edit_of_every_field_is_found(catalog: Catalog, row: int, column: str) -> None:
    with catalog.reading() as reading:
        value = reading.exec_driver_sql(f"SELECT {column} FROM audit WHERE id = ?", (row,)).scalar_one()
    edits: list[Any] = [1, 2, 3, 0, -1, 1 << 40, "x", b"2", 2.5, 7]
    if isinstance(value, int):
        assert column == "format"
    else:
        edits += [value[:-1], value + value[-1:], value[:0], value[1:] + value[:1]]
    if isinstance(value, bytes):
        edits += [
            bytes([value[0] ^ 1]) + value[1:],
            value[:-1] + bytes([value[-1] ^ 128]),
            value.hex(),
            bytes(32),
        ]
    elif isinstance(value, str):
        edits += [value.upper(), value.lower(), value + " ", value + "\0", value.encode()]
    for edit in edits:
        if edit != value:
            statement = (f"UPDATE audit SET {column} = ? WHERE id = ?", (edit, row))
            assert _tampered(catalog, statement), (column, edit)


@pytest.mark.parametrize("row", range(1, ROWS + 1))
@pytest.mark.parametrize("to", [-5, 0, ROWS + 1, 1000])
def test_every_edit_of_an_id_is_found(catalog: Catalog, row: int, to: int) -> None:
    assert _tampered(catalog, ("UPDATE audit SET id = ? WHERE id = ?", (to, row)))


@pytest.mark.parametrize("row", range(1, ROWS + 1))
def test_every_removal_is_found(catalog: Catalog, row: int) -> None:
    found = _tampered(catalog, ("DELETE FROM audit WHERE id = ?", (row,)))
    assert Flaw.MISSING in found


@pytest.mark.parametrize("row", range(1, ROWS))
def test_a_removal_with_the_rest_moved_up_is_found(catalog: Catalog, row: int) -> None:
    assert _tampered(
        catalog,
        ("DELETE FROM audit WHERE id = ?", (row,)),
        ("UPDATE audit SET id = -id WHERE id > ?", (row,)),
        ("UPDATE audit SET id = -id - 1 WHERE id < 0", ()),
        ("UPDATE audit_head SET count = count - 1", ()),
    )


@pytest.mark.parametrize("one", range(1, ROWS + 1))
@pytest.mark.parametrize("other", range(1, ROWS + 1))
def test_every_swap_is_found(catalog: Catalog, one: int, other: int) -> None:
    swap = (
        ("UPDATE audit SET id = -1 WHERE id = ?", (one,)),
        ("UPDATE audit SET id = ? WHERE id = ?", (one, other)),
        ("UPDATE audit SET id = ? WHERE id = -1", (other,)),
    )
    if one < other:
        assert _tampered(catalog, *swap)
    elif one == other:
        assert _tampered(catalog) == []


@pytest.mark.parametrize("kept", range(ROWS))
def test_every_truncation_is_found(catalog: Catalog, kept: int) -> None:
    assert _tampered(catalog, ("DELETE FROM audit WHERE id > ?", (kept,)))


@pytest.mark.parametrize("kept", range(1, ROWS))
def test_a_truncation_with_a_head_to_match_is_found(catalog: Catalog, kept: int) -> None:
    cut = ("DELETE FROM audit WHERE id > ?", (kept,))
    head = ("UPDATE audit_head SET count = ?, chain = (SELECT chain FROM audit WHERE id = ?)", (kept, kept))
    assert _tampered(catalog, cut, head) == [Flaw.HEAD]
    assert _tampered(catalog, cut, ("DELETE FROM audit_head", ())) == [Flaw.HEAD]


@pytest.mark.parametrize(
    "change",
    [
        "count = count + 1",
        "count = 'x'",
        "chain = zeroblob(32)",
        "chain = 'x'",
        "mac = zeroblob(32)",
        "mac = 'x'",
    ],
)
def test_every_edit_of_the_head_is_found(catalog: Catalog, change: str) -> None:
    assert _tampered(catalog, (f"UPDATE audit_head SET {change}", ())) == [Flaw.HEAD]


@pytest.mark.parametrize("after", range(ROWS + 1))
def test_every_insertion_is_found(catalog: Catalog, after: int) -> None:
    copy = f"INSERT INTO audit SELECT ?, {', '.join(COLUMNS)} FROM audit WHERE id = ?"
    assert _tampered(
        catalog,
        ("UPDATE audit SET id = -id WHERE id > ?", (after,)),
        ("UPDATE audit SET id = 1 - id WHERE id < 0", ()),
        (copy, (after + 1, after or 2)),
    )


@pytest.mark.parametrize("kept", range(ROWS))
def test_a_roll_back_to_an_earlier_moment_is_found_by_its_witness(tmp_path: Path, kept: int) -> None:
    catalog = Catalog.open(tmp_path / "catalog.db", KEY)
    heads: list[tuple[Any, ...]] = []
    for number in range(1, ROWS + 1):
        with catalog.transaction() as tx:
            audit.append(tx, KEY, [_entry(number)], NOW)
            heads.append(tuple(tx.exec_driver_sql("SELECT count, chain, mac FROM audit_head").one()))
    with catalog.reading() as reading:
        witness = audit.witness(reading)
    back = [("DELETE FROM audit WHERE id > ?", (kept,)), ("DELETE FROM audit_head", ())]
    if kept:
        back.append(("INSERT INTO audit_head VALUES (1, ?, ?, ?)", heads[kept - 1]))
    assert _tampered(catalog, *back) == []  # a box can't know: that is what the witness is for
    assert _tampered(catalog, *back, witness=witness) == [Flaw.ROLLED_BACK]
    with catalog.transaction() as tx:  # and it is still found after other rows have grown in their place
        for statement, values in back:
            tx.exec_driver_sql(statement, values)
        audit.append(tx, KEY, [_entry(100 + each) for each in range(ROWS + 3)], NOW)
        assert [each.flaw for each in audit.verify(tx, KEY, witness)] == [Flaw.ROLLED_BACK]
    catalog.close()


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM audit WHERE id > 3",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET count = 4, chain = (SELECT chain FROM audit WHERE id = 4)",
        "UPDATE audit_head SET chain = 'x'",
        "UPDATE audit SET actor = 'X' WHERE id = 6",
        f"INSERT INTO audit SELECT 7, {', '.join(COLUMNS)} FROM audit WHERE id = 6",
    ],
)
def test_a_tampered_audit_goes_on_and_never_heals(catalog: Catalog, tampering: str) -> None:
    with catalog.transaction() as tx:
        tx.exec_driver_sql(tampering)
    for number in range(3):
        with catalog.transaction() as tx:
            audit.append(tx, KEY, [_entry(10 + number)], NOW)
    with catalog.reading() as reading:
        assert audit.verify(reading, KEY) != []
        assert audit.recent(reading, limit=1)[0]["subject"] == "instance:12"


def test_rows_go_with_the_transaction_they_belong_to(catalog: Catalog) -> None:
    with pytest.raises(_RollBack), catalog.transaction() as tx:
        audit.append(tx, KEY, [_entry(7)], NOW)
        raise _RollBack
    with catalog.reading() as reading:
        assert audit.witness(reading).count == ROWS
        assert audit.verify(reading, KEY) == []


def test_writing_nothing_writes_nothing(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        before = audit.witness(tx)
        audit.append(tx, KEY, [], NOW)
        assert audit.witness(tx) == before


def test_a_word_outside_the_vocabulary_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Entry("instance:frobnicate", "x", "CT1")


def test_every_word_has_a_kind_and_says_what_it_means() -> None:
    for action, word in audit.VOCABULARY.items():
        subject, _, verb = action.partition(":")
        assert subject.isalpha() and verb.replace("-", "").replace("_", "").isalpha(), action
        assert isinstance(word, audit.Word), action
        assert isinstance(word.kind, audit.Kind), action
        assert isinstance(word.concerns, audit.Concerns), action
        assert isinstance(word.outcome, audit.Outcome), action
        assert word.says[0].islower() and not word.says.endswith("."), action


def test_what_fails_by_its_name_is_not_recorded_as_done() -> None:
    for action, word in audit.VOCABULARY.items():
        if action.endswith(("fail", "refuse", "knock", "forge", "corrupt")):
            assert word.outcome is not audit.Outcome.DONE, action


@pytest.mark.parametrize(
    ("actor", "kind"),
    [
        ("dicom:CT1", "device"),
        ("courier", "process"),
        ("jobs", "process"),
        ("visitor", "visitor"),
        ("marie", "person"),
        ("command line: marie", "person"),
        ("import:command line: marie", "person"),
    ],
)
def test_an_actor_who_says_no_kind_has_the_one_of_the_name(actor: str, kind: str) -> None:
    assert Entry("study:view", "1", actor).row(1, "").actor_kind == kind
    said = Entry("study:view", "1", actor, actor_kind=audit.ActorKind.PERSON)
    assert said.row(1, "").actor_kind == "person"


def test_the_study_and_the_address_are_columns_wherever_an_entry_says_them() -> None:
    row = Entry("study:view", "1", "marie", {"study": "1.2.3", "address": "10.0.0.7"}).row(1, "")
    assert (row.study, row.address, row.outcome) == ("1.2.3", "10.0.0.7", "done")
    assert Entry("door:knock", "device:X", "dicom:X", {"study": "1.2.3"}).row(1, "").study == ""
    assert Entry("study:view", "1", "marie", outcome=audit.Outcome.REFUSED).row(1, "").outcome == "refused"


def test_a_long_audit_is_verified_in_pieces(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        audit.append(tx, KEY, [_entry(number) for number in range(2500)], NOW)
        tx.exec_driver_sql("UPDATE audit SET actor = 'X' WHERE id IN (1003, 2222)")
    with catalog.reading() as reading:
        assert [each.row for each in audit.verify(reading, KEY)] == [1003, 2222]


def test_rows_are_exported_oldest_first_and_listed_newest_first(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        rows = list(audit.export(reading))
        assert [each["id"] for each in rows] == list(range(1, ROWS + 1))
        assert rows[0]["details"] == '{"intake":"a"}'
        assert (rows[0]["study"], rows[0]["address"], rows[0]["actor_kind"]) == (
            "1.2.1",
            "10.0.0.7",
            "device",
        )
        assert rows[0]["at_utc"] == "2026-11-22T01:49:00.123456Z"
        assert [each["id"] for each in audit.recent(reading, limit=2)] == [6, 5]
        assert [each["id"] for each in audit.recent(reading, limit=2, before=5)] == [4, 3]


def test_a_witness_survives_being_written_down(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        witness = audit.witness(reading)
    assert Witness.parse(f"{witness}\n") == witness
    for text in ("", "6", "x:00", f"{ROWS}:00", f"-1:{'0' * 64}", "6:zz"):
        with pytest.raises(Refused):
            Witness.parse(text)


OLD = AuditRow(
    id=1,
    at_utc="2026-11-22T01:49:00.000000Z",
    actor="CT1",
    actor_kind="",
    address="",
    action="instance:receive",
    subject="instance:é",
    study="",
    outcome="",
    details='{"study":"1.2.3"}',
    format=1,
    chain=b"",
)


def test_the_bytes_under_the_chain_never_change() -> None:
    """Vectors kept for ever: an audit written today is verified in ten years."""
    chain = row_chain(KEY, bytes(32), OLD)
    assert chain is not None
    assert chain.hex() == "f7ff8a4383b1835ad73fb3be1b9f61c2690d8915f58168aa5645e117749d119d"
    assert head_mac(KEY, 1, chain).hex() == "2146ea8003bbab8cb98b213f05e39f1a9eb5855a04aa805c0d1feed3f2396a2f"
    now = replace(OLD, format=2, actor_kind="device", address="10.0.0.7", study="1.2.3", outcome="done")
    chain = row_chain(KEY, bytes(32), now)
    assert chain is not None
    assert chain.hex() == "ab30ed87f8524bba1b0486b71b779761d82a7b658383c69deca910a9224ce64b"


def _edited(row: AuditRow, column: str, text: str) -> AuditRow:
    changes: dict[str, Any] = {column: text}
    return replace(row, **changes)


@pytest.mark.parametrize("column", ["actor_kind", "address", "study", "outcome"])
def test_a_row_of_the_first_format_can_be_given_no_text_that_its_chain_does_not_cover(column: str) -> None:
    assert row_chain(KEY, bytes(32), _edited(OLD, column, "x")) is None


def test_rows_of_both_formats_are_one_chain(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "catalog.db", KEY)
    chain = row_chain(KEY, bytes(32), OLD)
    assert chain is not None
    with catalog.transaction() as tx:
        audit_log.add(tx, [replace(OLD, chain=chain)], AuditHead(1, chain, head_mac(KEY, 1, chain)))
    with catalog.transaction() as tx:
        audit.append(tx, KEY, [_entry(2)], NOW)
        assert audit.verify(tx, KEY) == []
    for column in COLUMNS:
        for row in (1, 2):
            assert _tampered(catalog, (f"UPDATE audit SET {column} = 'x' WHERE id = ?", (row,))), (
                column,
                row,
            )
    assert _tampered(catalog, ("UPDATE audit SET format = 3 - format", ()))
    catalog.close()


_TEXT = st.text(max_size=12)


@given(
    st.lists(
        st.tuples(_TEXT, _TEXT, _TEXT, _TEXT, st.dictionaries(_TEXT, _TEXT, max_size=2)),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_any_change_of_any_text_breaks_the_chain(
    said: list[tuple[str, str, str, str, dict[str, str]]], data: st.DataObject
) -> None:
    rows: list[AuditRow] = []
    chain = bytes(32)
    for number, (subject, actor, study, address, details) in enumerate(said, start=1):
        row = Entry("study:view", subject, actor, details, study=study, address=address).row(number, "2026")
        chain = row_chain(KEY, chain, row) or b""
        rows.append(replace(row, chain=chain))
    head = AuditHead(len(rows), chain, head_mac(KEY, len(rows), chain))
    assert list(findings(KEY, rows, head, None)) == []
    place = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from([name for name in COLUMNS if name not in ("format", "chain")]))
    other = data.draw(_TEXT.filter(lambda text: text != getattr(rows[place], column)))
    edited = [*rows[:place], _edited(rows[place], column, other), *rows[place + 1 :]]
    assert [each.row for each in findings(KEY, edited, head, None)] == [place + 1]
    # Moving text over the border between two columns is a change too.
    moved = replace(rows[place], subject=rows[place].subject + "a", study="a" + rows[place].study)
    assert list(findings(KEY, [*rows[:place], moved, *rows[place + 1 :]], head, None))
