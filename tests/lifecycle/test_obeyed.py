"""A fire in the middle of a destruction: the box that came back from a backup of before owes every archive the rest of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.catalog import tombstones
from appliance.lifecycle import purging
from tests.backup.conftest import IMAGES, Clinic, clinic, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import restore
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, owed, study_of

pytestmark = pytest.mark.slow


@pytest.fixture
def burnt(clinic: Clinic, tmp_path: Path) -> Clinic:  # noqa: F811
    """The tombstone lies in the archive, the backup that remembers the patient too; then the box burnt, and came back in ``after``."""
    clinic.receive(*IMAGES[:2], *GONE)
    clinic.deliver()
    clinic.back_up()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.deliver_until(lambda: not owed(clinic))
    restore(tmp_path / "after", clinic.place, clinic.paper)
    return clinic


def test_no_certificate_after_a_fire_has_the_number_of_one_before_it(burnt: Clinic, tmp_path: Path) -> None:
    with burnt.box.catalog.reading() as conn:
        (before,) = tombstones.certificates(conn)
    assert before.label == f"D-{LATER.year}-0001", "a box that never came back counts, and no more"
    with box_in(tmp_path / "after") as box:
        approve(box, study_of(box, IMAGES[0]).id)
        assert purging.carry_out(box, LATER) == 1
        with box.catalog.reading() as conn:
            labels = [each.label for each in tombstones.certificates(conn)]
            assert tombstones.certificate(conn, labels[0]).label == labels[0]
    assert labels and before.label not in labels
