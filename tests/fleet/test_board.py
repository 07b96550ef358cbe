"""The board is the same in a folder and in a bucket."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.fleet import board
from appliance.fleet.board import Board
from tests.replication.cloud import cloud


@pytest.fixture(params=["folder", "bucket"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    if request.param == "folder":
        yield board.board(str(tmp_path))
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    with cloud() as running:
        yield board.board(f"s3://{running.new_bucket()}/fleet/", endpoint_url=running.url)


def test_no_more_is_read_than_tells_that_it_is_too_much(there: Board) -> None:
    there.write("boxes/a.json", bytes(3 << 20))
    assert len(there.read("boxes/a.json")) == board.MOST_BYTES


def test_what_is_laid_there_lies_there(there: Board) -> None:
    assert there.boxes() == ()
    assert there.read("wanted/0123456789abcdef.json") == b""
    for data in (b"one", b"two"):
        there.write("wanted/0123456789abcdef.json", data)
        assert there.read("wanted/0123456789abcdef.json") == data
    for name in ("b", "a"):
        there.write(f"boxes/{name}.json", b"x")
    assert there.boxes() == ("a", "b")


def test_who_asks_after_a_box_loads_little_of_the_product() -> None:
    """A playbook asks in a process of its own, each time, for each box of a fleet."""
    program = "import sys; from appliance.fleet import board, roll, wanted;print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    assert "appliance.fleet.vocabulary" in loaded
    assert not {"sqlalchemy", "pydicom", "pynetdicom", "numpy", "flask", "boto3", "appliance.box"} & loaded
