"""Opened by its key, whole after a kill, no clear text, and each complaint of SQLite in our terms."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from appliance import audit
from appliance.catalog import Catalog, Conflict, database, instances, settings, studies
from appliance.catalog.schema import REVISION
from appliance.errors import Corrupt, OperatorNeeded, OutOfResources, Transient
from tests.catalog.arrivals import KEY, NOW, received

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


def _python(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )


def test_a_wrong_key_is_for_the_operator_on_one_line(path: Path) -> None:
    Catalog.open(path, KEY).close()
    before = path.read_bytes()
    with pytest.raises(OperatorNeeded) as caught:
        Catalog.open(path, bytes(32))
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert KEY.hex() not in str(caught.value)
    assert path.read_bytes() == before


def test_a_second_connection_keeps_the_locks_of_the_first(path: Path) -> None:
    """Without them another process takes itself for the last one, and the write-ahead log for its own."""
    catalog = Catalog.open(path, KEY)
    with catalog.reading(), catalog.reading(), catalog.reading():
        held = [
            line.split()
            for line in Path("/proc/locks").read_text("ascii").splitlines()
            if f":{path.stat().st_ino} " in line
        ]
    catalog.close()
    assert [(kind, pid) for _, _, _, kind, pid, *_ in held] == [("READ", str(os.getpid()))]


def test_a_rotation_that_overtakes_who_opens_it_is_not_taken_for_a_wrong_key(path: Path) -> None:
    """The list goes from the newest key to the oldest, and a rotation the other way: they may pass each other."""
    old, new = bytes(32), bytes([1]) * 32
    others = Catalog.open(path, old)
    moves = [True]

    class EachInItsTurn(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            yield new
            if moves:
                assert others.rekey(new, lambda: [old]) is moves.pop()
            yield old

    database._connect(path, EachInItsTurn).close()
    others.close()
    assert not moves


def test_a_key_of_another_length_is_a_mistake_of_the_program(path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Catalog.open(path, b"short")


def of_newer_software(path: Path, works_with: int) -> None:
    """A catalog to which revision 9999 has added, and which software from `works_with` on may use."""
    catalog = Catalog.open(path, KEY)
    with catalog.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        tx.execute(text("ALTER TABLE settings ADD COLUMN later TEXT"))
        tx.execute(text(f"PRAGMA user_version = {works_with}"))
    catalog.close()


@pytest.mark.parametrize("works_with", [int(REVISION) + 1, 9999, 0])
def test_newer_software_is_not_undone(path: Path, works_with: int) -> None:
    of_newer_software(path, works_with)
    with pytest.raises(OperatorNeeded, match="newer software"):
        Catalog.open(path, KEY)


def test_software_that_an_update_went_back_to_goes_on_where_that_only_added(path: Path) -> None:
    of_newer_software(path, int(REVISION))
    catalog = Catalog.open(path, KEY)
    with catalog.transaction() as tx:
        settings.put(tx, "acknowledged", 1, NOW)
    catalog.close()
    reopened = Catalog.open(path, KEY)
    with reopened.reading() as reading:
        assert settings.get(reading, "acknowledged") == 1
        assert reading.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999", (
            "not undone"
        )
        assert reading.execute(text("SELECT later FROM settings")).all(), "nor taken away"
    reopened.close()


def test_a_catalog_bears_the_earliest_software_that_works_with_it(path: Path) -> None:
    catalog = Catalog.open(path, KEY)
    with catalog.reading() as reading:
        assert reading.exec_driver_sql("PRAGMA user_version").scalar() == 17  # 0018 and 0019 only add
    catalog.close()


def test_a_folder_that_is_not_there_is_for_the_operator(tmp_path: Path) -> None:
    with pytest.raises(OperatorNeeded):
        Catalog.open(tmp_path / "nowhere" / "catalog.db", KEY)


def test_something_else_in_its_place_is_for_the_operator(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OperatorNeeded):
        Catalog.open(path, KEY)


def test_only_its_owner_may_read_the_file(catalog: Catalog, path: Path) -> None:
    with catalog.transaction() as tx:
        settings.put(tx, "a", 1, NOW)
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock"):
        assert (path.parent / name).stat().st_mode & 0o077 == 0


def test_every_connection_keeps_the_promises_of_durability(catalog: Catalog) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "temp_store": 2,
        "trusted_schema": 0,
    }
    with catalog.reading() as first, catalog.reading() as second, catalog.transaction() as third:
        for connection in (first, second, third):
            for pragma, value in wanted.items():
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value, pragma
            assert connection.exec_driver_sql("PRAGMA cipher_provider").scalar() == "openssl"


def test_a_transaction_stays_or_goes_as_a_whole(catalog: Catalog) -> None:
    with pytest.raises(RuntimeError), catalog.transaction() as tx:
        instances.record(tx, received(), version=0)
        raise RuntimeError("halfway")
    with catalog.reading() as reading:
        assert studies.find(reading) == []


def test_what_a_reading_writes_does_not_stay(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        settings.put(database.Transaction(reading), "a", 1, NOW)
    with catalog.reading() as reading:
        assert settings.get(reading, "a") is None


def test_a_reading_sees_one_moment(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        assert settings.get(reading, "a") is None
        with catalog.transaction() as tx:
            settings.put(tx, "a", 1, NOW)
        assert settings.get(reading, "a") is None
    with catalog.reading() as reading:
        assert settings.get(reading, "a") == 1


def test_many_threads_write_in_turns(catalog: Catalog) -> None:
    def count() -> None:
        for _ in range(20):
            with catalog.transaction() as tx:
                settings.put(tx, "count", settings.get(tx, "count", 0) + 1, NOW)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with catalog.reading() as reading:
        assert settings.get(reading, "count") == 160


def test_a_catalog_kept_busy_is_tried_again_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    one, other = Catalog.open(path, KEY), Catalog.open(path, KEY)
    with one.transaction() as tx:
        settings.put(tx, "a", 1, NOW)
        with pytest.raises(Transient, match="busy"), other.transaction():
            raise AssertionError("two writers at once")
    with other.transaction() as tx:  # and then it works
        settings.put(tx, "a", 2, NOW)
    one.close()
    other.close()


def test_too_many_questions_at_once_wait_then_come_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(database, "MOST_CONNECTIONS", database.IDLE_CONNECTIONS)
    catalog = Catalog.open(path, KEY)
    open_readings = [catalog.reading() for _ in range(database.IDLE_CONNECTIONS)]
    for each in open_readings:
        each.__enter__()
    with pytest.raises(Transient), catalog.reading():
        raise AssertionError("more connections than there may be")
    question = catalog.question("SELECT 1")
    with pytest.raises(Transient, match="too many questions"):
        question.first(())
    for each in open_readings:
        each.__exit__(None, None, None)
    assert question.first(()) == (1,)
    question.close()
    catalog.close()


def test_a_full_disk_is_told_and_heals(catalog: Catalog) -> None:
    def fill(pages: int | None) -> None:
        with catalog.transaction() as tx:
            now = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
            limit = 1 << 30 if pages is None else now + pages
            tx.exec_driver_sql(f"PRAGMA max_page_count = {limit}")
            settings.put(tx, "much", "x" * 1_000_000, NOW)

    with pytest.raises(OutOfResources):
        fill(2)
    with catalog.reading() as reading:
        assert settings.get(reading, "much") is None
    fill(None)


def test_a_second_of_its_kind_is_a_conflict_that_names_no_value(catalog: Catalog) -> None:
    arrival = received(patient_name="GEHEIM^Marker")
    with catalog.transaction() as tx:
        instances.record(tx, arrival, version=0)
    with pytest.raises(Conflict) as caught, catalog.transaction() as tx:
        instances.record(tx, arrival, version=0)
    told = f"{caught.value}{caught.value.__cause__}{caught.value.__cause__.__context__}"  # type: ignore[union-attr]
    assert "GEHEIM" not in told
    assert arrival.header.sop_instance_uid not in told


def test_what_may_never_be_absent_is_a_mistake_of_ours_not_a_conflict(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError), catalog.transaction() as tx:
        tx.execute(text("INSERT INTO settings (key, value, changed_utc) VALUES ('a', NULL, 'b')"))


def test_a_mistake_in_our_own_sql_is_not_dressed_up_and_shows_no_parameters(catalog: Catalog) -> None:
    with catalog.reading() as reading, pytest.raises(OperationalError) as caught:
        reading.execute(text("SELECT * FROM nothing WHERE a = :a"), {"a": "GEHEIM"})
    assert "GEHEIM" not in str(caught.value)


def test_damage_is_found_not_served(path: Path) -> None:
    catalog = Catalog.open(path, KEY)
    with catalog.transaction() as tx:
        instances.record_many(tx, [(received(), 0) for _ in range(500)])
    catalog.close()
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    assert pages > 20
    for page in range(1, pages):
        content[page * 4096 + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(Corrupt):
        catalog = Catalog.open(path, KEY)
        try:
            with catalog.reading() as reading:
                list(instances.all_objects(reading))
        finally:
            catalog.close()


def test_no_clear_text_anywhere_in_the_folder(catalog: Catalog, path: Path) -> None:
    arrival = received(
        patient_name="MARQUEUR^Zephyrine",
        patient_id="MARQUEUR-ID",
        study_description="MARQUEUR-DESCRIPTION",
        accession_number="MARQUEUR-ACC",
    )

    def scan() -> None:
        files = [each for each in path.parent.rglob("*") if each.is_file()]
        assert {"catalog.db", "catalog.db-wal"} <= {each.name for each in files} or not open_now
        for each in files:
            content = each.read_bytes().lower()
            for marker in (
                b"marqueur",
                b"zephyrine",
                b"SQLite format 3".lower(),
                b"create table",
                b"1.2.3.1",
            ):
                assert marker not in content, each

    open_now = True
    with catalog.transaction() as tx:
        instances.record_many(tx, [(arrival, 0)] + [(received(), 0) for _ in range(2000)])
    with catalog.reading() as reading:
        assert studies.find(reading, "marqueur zephyrine")
        reading.exec_driver_sql(
            "SELECT * FROM instances ORDER BY object_id DESC"
        ).fetchall()  # a sort, in memory
    scan()
    catalog.close()
    open_now = False
    scan()


_WRITER = """
    import sys
    from datetime import UTC, datetime, timedelta, timezone
    from pathlib import Path
    from appliance.catalog import Catalog, settings
    now = datetime(2026, 11, 22, tzinfo=UTC)
    catalog = Catalog.open(Path(sys.argv[1]), bytes(range(32)))
    for _ in range(int(sys.argv[2])):
        with catalog.transaction() as tx:
            settings.put(tx, "count", settings.get(tx, "count", 0) + 1, now)
    catalog.close()
"""


@pytest.mark.slow
def test_processes_create_and_write_side_by_side(path: Path) -> None:
    writers = [_python(_WRITER, str(path), "50") for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    catalog = Catalog.open(path, KEY)
    with catalog.reading() as reading:
        assert settings.get(reading, "count") == 200
    catalog.close()


_RECORDER = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    from appliance import audit
    from appliance.catalog import Catalog, instances
    from tests.catalog.arrivals import KEY, NOW, received
    catalog = Catalog.open(Path(sys.argv[1]), KEY)
    number = int(sys.argv[2])
    while True:
        number += 1
        with catalog.transaction() as tx:
            batch = [received(sop_instance_uid=f"1.2.3.{number}.{n}") for n in range(20)]
            named = [
                replace(each, stored=replace(each.stored, object_id=f"{number}-{n}")) for n, each in enumerate(batch)
            ]
            instances.record_many(tx, [(each, 0) for each in named])
            audit.append(tx, KEY, [audit.Entry("instance:receive", str(number), "CT1")] * 20, NOW)
        print(number, flush=True)
"""


@pytest.mark.slow
def test_kill_leaves_whole_transactions_and_every_promised_one(path: Path) -> None:
    promised = 0
    for round_number in range(5):
        recorder = _python(_RECORDER, str(path), str(round_number * 100_000))
        assert recorder.stdout is not None
        for _ in range(3 + 7 * round_number):
            promised = int(recorder.stdout.readline())
        os.kill(recorder.pid, signal.SIGKILL)
        promised = max([promised, *(int(line) for line in recorder.stdout if line.strip())])
        recorder.wait(30)
        recorder.stdout.close()
        catalog = Catalog.open(path, KEY)
        with catalog.reading() as reading:
            count = len(list(instances.all_objects(reading)))
            found = studies.study(reading, received().header.study_instance_uid)
            assert found is not None
            last = received(sop_instance_uid=f"1.2.3.{promised}.19").header.sop_instance_uid
            assert instances.known_among(reading, [last]) == {last}
            assert count % 20 == 0
            assert count == found.instances == audit.witness(reading).count
            assert audit.verify(reading, KEY) == []
        catalog.close()


def test_times_in_tables_are_utc_of_fixed_width(catalog: Catalog) -> None:
    montreal = datetime(2026, 11, 21, 20, 49, tzinfo=timezone(timedelta(hours=-5)))
    with catalog.transaction() as tx:
        instances.record(tx, received(montreal), version=0)
    with catalog.reading() as reading:
        written = reading.exec_driver_sql("SELECT received_utc FROM instances").scalar_one()
        assert written == "2026-11-22T01:49:00.000000Z"
        assert studies.find(reading)[0].last_received_utc == datetime(2026, 11, 22, 1, 49, tzinfo=UTC)
    with pytest.raises(ValueError, match="time zone"), catalog.transaction() as tx:
        instances.record(tx, received(datetime(2026, 11, 22)), version=0)  # noqa: DTZ001 - that is the point
