"""What every archive promises besides: that what it keeps can be had back. Provide the fixtures ``archive``, ``unreachable``."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from appliance.errors import Transient, Unknown
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Distant

LANES = 8


class ArchiveContract:
    """The suite."""

    def test_a_document_comes_back_as_it_was_written_last(self, archive: Archive) -> None:
        assert isinstance(archive, Archive)
        archive.put_document("manifests/one.sealed", b"first")
        archive.put_document("manifests/one.sealed", b"second")
        assert archive.document("manifests/one.sealed") == b"second"

    def test_a_large_document_comes_back_in_pieces(self, archive: Archive) -> None:
        large = bytes(range(256)) * 12_000
        archive.put_document("snapshots/a/000000", large)
        pieces = list(archive.blocks("snapshots/a/000000"))
        assert b"".join(pieces) == large
        assert max(map(len, pieces)) <= 1 << 20

    def test_what_is_not_there_is_unknown(self, archive: Archive) -> None:
        with pytest.raises(Unknown):
            archive.document("manifests/none.sealed")
        with pytest.raises(Unknown):
            next(archive.blocks("objects/ab/none.sealed"))
        assert list(archive.documents("manifests/")) == []

    def test_documents_are_listed_by_prefix_and_in_order(self, archive: Archive) -> None:
        for key in ("snapshots/b/index", "snapshots/a/index", "snapshots/a/000000", "manifests/x.sealed"):
            archive.put_document(key, b"x")
        found = list(archive.documents("snapshots/"))
        assert [each.key for each in found] == [
            "snapshots/a/000000",
            "snapshots/a/index",
            "snapshots/b/index",
        ]
        now = datetime.now(UTC)
        assert all(abs(now - each.written_utc) < timedelta(hours=1) for each in found)

    def test_several_documents_are_read_at_once_where_it_says_so(self, archive: Archive) -> None:
        keys = [f"manifests/{number:03d}.sealed" for number in range(3 * LANES)]
        for key in keys:
            archive.put_document(key, key.encode())
        if not isinstance(archive, Distant):
            return
        lanes = min(archive.reads_at_once, LANES)
        together = threading.Barrier(lanes, timeout=60)

        def read(lane: int) -> list[bytes]:
            together.wait()
            return [archive.document(key) for key in keys[lane::lanes]]

        with ThreadPoolExecutor(lanes) as threads:
            read_by = list(threads.map(read, range(lanes)))
        assert sorted(each for lane in read_by for each in lane) == [key.encode() for key in keys]

    def test_an_archive_out_of_reach_is_tried_again(self, unreachable: Archive) -> None:
        for act in (
            lambda: unreachable.document("manifests/one.sealed"),
            lambda: list(unreachable.documents("manifests/")),
            lambda: unreachable.put_document("manifests/one.sealed", b"x"),
        ):
            with pytest.raises(Transient):
                act()
