"""The folder destination."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import OperatorNeeded, OutOfResources, Transient
from appliance.model import DestinationSettings
from appliance.replication.destinations import Parcel
from appliance.replication.destinations.folder import FolderDestination
from tests.replication.contract import DestinationContract, NamesContract, Place


class TestFolder(DestinationContract, NamesContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        folder = tmp_path / "hand-over"
        folder.mkdir()

        def held(parcel: Parcel) -> bytes:
            (found,) = folder.glob(f"*/{parcel.object_id}.dcm")
            return found.read_bytes()

        return Place(
            destination=FolderDestination(folder),
            unreachable=FolderDestination(tmp_path / "not-plugged-in"),
            closed_to_us=FolderDestination(Path("/sys/kernel")),
            refusing=None,
            held=held,
            count=lambda: len([each for each in folder.rglob("*") if each.is_file()]),
        )

    def test_no_text_of_a_peer_becomes_a_path(self, place: Place, parcels: list[Parcel]) -> None:
        with place.destination.open(parcels) as session:
            names = [str(session.send(parcel)["file"]) for parcel in parcels]
        assert not any(parcel.sop_instance_uid in name for parcel in parcels for name in names)
        assert len({name.split("/")[0] for name in names}) == 2

    def test_a_crash_while_writing_leaves_nothing_that_looks_whole(
        self, place: Place, parcels: list[Parcel], tmp_path: Path
    ) -> None:
        parcels[2].sealed_path.write_bytes(parcels[2].sealed_path.read_bytes()[:-100])
        with place.destination.open(parcels) as session, pytest.raises(Exception, match=r".+"):
            session.send(parcels[2])
        assert not list(tmp_path.rglob("*.dcm"))
        assert place.count() == 0

    def test_a_file_that_was_altered_there_is_written_again(
        self, place: Place, parcels: list[Parcel]
    ) -> None:
        from dataclasses import replace

        with place.destination.open(parcels) as session:
            session.send(parcels[0])
            whole = place.held(parcels[0])
            (path,) = place.destination.path.rglob(f"{parcels[0].object_id}.dcm")  # type: ignore[attr-defined]
            path.write_bytes(whole[:-2] + b"??")
            session.send(replace(parcels[0], tried_before=True))
        assert place.held(parcels[0]) == whole

    def test_a_full_disk_is_tried_again(self, parcels: list[Parcel]) -> None:
        from appliance.replication.destinations.files import translated

        try:
            Path("/dev/full").write_bytes(b"x" * 100)
        except OSError as error:
            assert isinstance(translated(error, Path("/srv")), OutOfResources)
        else:
            pytest.fail("/dev/full took it")


def test_a_relative_path_is_refused() -> None:
    settings = DestinationSettings("x", "folder", "dicom", {"path": "hand-over"})
    with pytest.raises(OperatorNeeded, match="absolute"):
        FolderDestination.from_settings(settings)


@pytest.mark.parametrize("options", [{}, {"path": 3}, {"path": ""}])
def test_a_missing_path_is_said(options: dict[str, str | int | bool]) -> None:
    with pytest.raises(OperatorNeeded, match="path"):
        FolderDestination.from_settings(DestinationSettings("x", "folder", "dicom", options))


def test_a_file_where_the_folder_should_be_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Transient):
        FolderDestination(tmp_path / "file").check()
