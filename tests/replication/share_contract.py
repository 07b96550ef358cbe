"""What every file server and share promises as an archive. Provide the fixtures ``archive``, ``unreachable`` and ``folder``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.errors import Refused, Transient, Unknown
from appliance.replication.destinations.archive import Clearable
from appliance.replication.destinations.share import ShareDestination
from tests.replication.archive_contract import ArchiveContract


class ShareContract(ArchiveContract):
    """The suite. `folder` is where `archive` keeps what it has, on the disk of the server."""

    def test_what_has_had_its_time_is_removed(self, archive: ShareDestination) -> None:
        assert isinstance(archive, Clearable)
        archive.put_document("snapshots/a/index", b"x")
        archive.remove("snapshots/a/index")
        archive.remove("snapshots/a/index")
        with pytest.raises(Unknown):
            archive.document("snapshots/a/index")

    def test_a_list_that_loses_a_folder_on_its_way_does_not_look_whole(
        self, archive: ShareDestination, folder: Path
    ) -> None:
        for each in ("a", "b"):
            archive.put_document(f"snapshots/{each}/index", b"x")
        found = archive.documents("snapshots/")
        assert next(iter(found)).key == "snapshots/a/index"
        shutil.rmtree(folder / "snapshots" / "b")
        with pytest.raises(Transient):
            list(found)
        assert [each.key for each in archive.documents("snapshots/")] == ["snapshots/a/index"]

    @pytest.mark.parametrize("key", ["../outside", "objects/../../x", "/etc/passwd", "", "a/\0"])
    def test_no_key_leads_out_of_the_folder(self, archive: ShareDestination, key: str) -> None:
        for act in (
            lambda: archive.document(key),
            lambda: archive.put_document(key, b"x"),
            lambda: archive.remove(key),
        ):
            with pytest.raises(Refused):
                act()
