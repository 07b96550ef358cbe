"""Any edit, removal, reordering or truncation of the audit is found, and so is a roll-back of everything."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import audit
from appliance.audit import Entry, Flaw, Witness
from appliance.audit.chain import head_mac, row_chain
from appliance.catalog import Catalog, Transaction
from appliance.catalog.audit_log import AuditRow
from appliance.errors import Refused
from tests.catalog.arrivals import NOW

KEY = bytes(range(32))
ROWS = 6
COLUMNS = ("at_utc", "actor", "action", "subject", "details", "chain")


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
        "instance:receive", f"instance:{number}", "CT1", {"study": f"1.2.{number}", "address": "10.0.0.7"}
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
    edits: list[Any] = [value[:-1], value + value[-1:], value[:0], value[1:] + value[:1], 7]
    if isinstance(value, bytes):
        edits += [
            bytes([value[0] ^ 1]) + value[1:],
            value[:-1] + bytes([value[-1] ^ 128]),
            value.hex(),
            bytes(32),
        ]
    else:
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
    copy = (
        "INSERT INTO audit SELECT ?, at_utc, actor, action, subject, details, chain FROM audit WHERE id = ?"
    )
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
        "INSERT INTO audit SELECT 7, at_utc, actor, action, subject, details, chain FROM audit WHERE id = 6",
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


def test_the_vocabulary_says_what_each_word_means() -> None:
    for action, words in audit.VOCABULARY.items():
        subject, _, verb = action.partition(":")
        assert subject.isalpha() and verb.replace("-", "").replace("_", "").isalpha(), action
        assert words


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
        assert rows[0]["details"] == '{"address":"10.0.0.7","study":"1.2.1"}'
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


def test_the_bytes_under_the_chain_never_change() -> None:
    """Vectors kept for ever: an audit written today is verified in ten years."""
    row = AuditRow(
        1, "2026-11-22T01:49:00.000000Z", "CT1", "instance:receive", "instance:é", '{"study":"1.2.3"}', b""
    )
    chain = row_chain(KEY, bytes(32), row)
    assert chain is not None
    assert chain.hex() == "f7ff8a4383b1835ad73fb3be1b9f61c2690d8915f58168aa5645e117749d119d"
    assert head_mac(KEY, 1, chain).hex() == "2146ea8003bbab8cb98b213f05e39f1a9eb5855a04aa805c0d1feed3f2396a2f"
