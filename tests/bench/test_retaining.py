"""The bench of retention measures what it says: all studies are worked out, and the list holds those that are due."""

from pathlib import Path

from appliance.catalog import Catalog

from . import retaining
from .retaining import FILMS_A_STUDY, KEY, filled, measured, table


def test_everything_is_worked_out_and_told(tmp_path: Path) -> None:
    filled(tmp_path, 300)
    found = measured(tmp_path, 300)
    assert found.studies == 300
    assert 0 < found.due <= found.foreseen < 300
    assert found.everything.parts >= 3
    assert found.everything.seconds > found.everything.longest_seconds > 0
    assert found.night.parts == found.shared.parts == 1
    said = table(found)
    assert f"| 300 studies, {found.due} due today, {found.foreseen} in 12 months |" in said
    catalog = Catalog.open(tmp_path / "catalog.db", KEY)
    try:
        with catalog.reading() as conn:
            instances, contradicted, shared = conn.exec_driver_sql(
                "SELECT count(*), count(other_patient),"
                " (SELECT count(*) FROM studies s JOIN patients p ON p.id = s.patient WHERE p.patient_id = ?) FROM instances",
                (retaining.SHARED_ID,),
            ).one()
    finally:
        catalog.close()
    assert instances == FILMS_A_STUDY * (300 + retaining.A_DAY + 1)
    assert contradicted == 1 and shared == 4
