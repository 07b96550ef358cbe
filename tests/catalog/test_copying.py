"""A copy of the catalog is made in pieces, between which whoever asks for it may rest, or stop."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from appliance.catalog import Catalog, copying, instances
from appliance.errors import OutOfResources, Transient
from tests.catalog.arrivals import received

KEY = bytes(range(32, 64))


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """Enough rows for more than one piece of each step."""
    with catalog.transaction() as tx:
        instances.record_many(tx, [(received(), 0) for _ in range(4_000)])
    return catalog


def counted() -> tuple[list[None], Callable[[], None]]:
    calls: list[None] = []
    return calls, lambda: calls.append(None)


def stop() -> None:
    raise Transient("the backup was interrupted")


def test_both_steps_are_done_in_pieces_and_keep_every_row(filled: Catalog, tmp_path: Path) -> None:
    pages, rows = tmp_path / "pages.db", tmp_path / "rows.db"
    for_copy, between = counted()
    found = copying.copy(filled, pages, KEY, instances.last_id, between)
    for_rewrite, between = counted()
    copying.rewrite(pages, KEY, rows, between)
    assert found == 4_000
    assert len(for_copy) > 1 and len(for_rewrite) > 1
    for path in (pages, rows):
        copying.verify(path, KEY)
        copy = sqlcipher.connect(str(path))
        copy.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
        assert copy.execute("SELECT count(*) FROM instances").fetchone() == (4_000,)
        copy.close()


def test_the_copy_is_of_one_moment_whatever_is_recorded_and_removed_meanwhile(
    filled: Catalog, tmp_path: Path
) -> None:
    pages, meanwhile = tmp_path / "pages.db", 0

    def work() -> None:
        nonlocal meanwhile
        with filled.transaction() as tx:
            instances.record_many(tx, [(received(), 0) for _ in range(50)])
            tx.exec_driver_sql("DELETE FROM deliveries WHERE instance % 7 = ?", (meanwhile % 7,))
            tx.exec_driver_sql("UPDATE instances SET transfer_syntax_uid = 'changed' WHERE id < 100")
        meanwhile += 1

    with filled.reading() as reading:
        before = reading.exec_driver_sql("SELECT * FROM instances ORDER BY id").all()
    last = copying.copy(filled, pages, KEY, instances.last_id, work)
    assert meanwhile > 1
    assert last == 4_000
    copying.verify(pages, KEY)
    copy = sqlcipher.connect(str(pages))
    copy.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
    assert copy.execute("SELECT * FROM instances ORDER BY id").fetchall() == [tuple(row) for row in before]
    copy.close()
    with filled.reading() as reading:
        assert instances.last_id(reading) == 4_000 + 50 * meanwhile


def test_whoever_is_to_stop_stops_between_two_pieces_of_either_step(filled: Catalog, tmp_path: Path) -> None:
    pages, rows = tmp_path / "pages.db", tmp_path / "rows.db"
    with pytest.raises(Transient, match="interrupted"):
        copying.copy(filled, pages, KEY, lambda _: None, stop)
    pages.unlink()
    copying.copy(filled, pages, KEY, lambda _: None, lambda: None)
    with pytest.raises(Transient, match="interrupted"):
        copying.rewrite(pages, KEY, rows, stop)


def test_what_goes_wrong_between_two_pieces_is_told_as_it_is(filled: Catalog, tmp_path: Path) -> None:
    def full() -> None:
        raise OutOfResources("the disk is full")

    copying.copy(filled, tmp_path / "pages.db", KEY, lambda _: None, lambda: None)
    with pytest.raises(OutOfResources, match="full"):
        copying.rewrite(tmp_path / "pages.db", KEY, tmp_path / "rows.db", full)
