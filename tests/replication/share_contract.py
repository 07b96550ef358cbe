"""What every file server and share promises as an archive. Provide the fixtures ``archive``, ``unreachable`` and ``folder``."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

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

    def test_what_a_cut_left_of_a_document_or_an_image_is_removed_and_nothing_else(
        self, archive: ShareDestination, folder: Path
    ) -> None:
        mine, other, image = "ab" * 32, "cd" * 32, "0123456789abcdef0123456789abcdef"
        archive.remove_parts([f"manifests/{mine}.sealed"])  # nothing ever came
        archive.put_document(f"manifests/{mine}.sealed", b"a tombstone")
        arriving = folder / ".arriving"
        aside = f"aside-manifests%2F{mine}.sealed-01234567"
        gone = [f"{mine}-01234567", aside, image]
        stay = [
            f"{other}-01234567",
            f"aside-manifests%2F{other}.sealed-01234567",
            "key-01234567",
            f"{image[:-1]}0",
        ]
        for each in (*gone, *stay):
            (arriving / each).write_bytes(b"what a cut left")
        archive.remove_parts([f"manifests/{mine}.sealed", f"objects/01/{image}.sealed"])
        assert sorted(each.name for each in arriving.iterdir()) == sorted(stay)
        assert archive.document(f"manifests/{mine}.sealed") == b"a tombstone"

    def test_what_was_put_aside_when_its_successor_was_cut_is_read_and_listed(
        self, archive: ShareDestination, folder: Path
    ) -> None:
        archive.put_document("manifests/there.sealed", b"there")
        for key in ("manifests/one.sealed", "manifests/two.sealed"):
            waiting = folder / ".arriving" / f"aside-{quote(key, safe='')}-01234567"
            waiting.write_bytes(b"what was there")
        assert archive.document("manifests/one.sealed") == b"what was there"
        found = [each.key for each in archive.documents("manifests/")]
        assert found == [f"manifests/{each}.sealed" for each in ("one", "there", "two")]
        assert not list((folder / ".arriving").glob("aside-*"))

    @pytest.mark.parametrize("key", ["../outside", "objects/../../x", "/etc/passwd", "", "a/\0"])
    def test_no_key_leads_out_of_the_folder(self, archive: ShareDestination, key: str) -> None:
        for act in (
            lambda: archive.document(key),
            lambda: archive.put_document(key, b"x"),
            lambda: archive.remove(key),
        ):
            with pytest.raises(Refused):
                act()
