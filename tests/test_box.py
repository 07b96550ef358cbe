"""A data folder is opened whole, made when it is new, and never made anew when half of it is gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.box import open_box
from appliance.errors import OperatorNeeded
from appliance.ingest import Reception
from tests.boxes import box_in, config_in, recorded, send
from tests.instances import Instance


def fill(data: Path) -> None:
    with box_in(data) as box:
        reception = Reception(box, "worker")
        send(reception, Instance(1))
        reception.close()


def test_a_new_folder_becomes_a_box_that_opens_again(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "data")
    with box_in(tmp_path / "deep" / "data") as box:
        assert len(recorded(box)) == 1


@pytest.mark.parametrize("lost", ["keys", "catalog.db"])
@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_folder_that_lost_half_of_itself_is_refused_and_left_alone(
    tmp_path: Path, lost: str, how: str
) -> None:
    fill(tmp_path)
    for path in tmp_path.glob("catalog.db-*"):
        path.unlink()
    gone = tmp_path / lost
    if gone.is_dir():
        shutil.rmtree(gone)
        if how == "emptied":
            gone.mkdir(mode=0o700)
    elif how == "removed":
        gone.unlink()
    else:
        os.truncate(gone, 0)
    before = sorted(path.name for path in (tmp_path / "objects").rglob("*"))
    with pytest.raises(OperatorNeeded) as refusal:
        open_box(config_in(tmp_path))
    assert refusal.value.hint
    assert sorted(path.name for path in (tmp_path / "objects").rglob("*")) == before
    assert not (tmp_path / "keys" / "root.machine").exists() or lost == "catalog.db"


def test_a_place_that_cannot_be_a_folder_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OperatorNeeded, match="cannot be used"):
        open_box(config_in(tmp_path / "file"))


def test_many_processes_may_open_a_new_folder_at_once(tmp_path: Path) -> None:
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                open_box(config_in(tmp_path)).close()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
