"""What the runbooks of the help tell people to type exists, and does to a box what they say."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from appliance.box import open_box
from appliance.cli.command import main
from appliance.errors import OperatorNeeded
from appliance.lifecycle import verification
from appliance.store import keys
from tests.boxes import box_in, config_in
from tests.web.conftest import fill

HELP = Path(__file__).parents[2] / "web-ui/help"
COMMANDS = sorted(
    {
        unescape(each)
        for path in HELP.glob("*/runbooks.html")
        for each in re.findall(r"<code>appliance ([a-z][^<]+)</code>", path.read_text("utf-8"))
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_what_a_runbook_says_to_type_can_be_typed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.split(">", maxsplit=1)[0].split()
    verbs = [each for each in words if re.fullmatch(r"[a-z][a-z0-9-]*", each)]
    try:
        code = main([*verbs, "--help"])
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    assert code == 0, shown.err
    for option in (each for each in words if each.startswith("--")):
        assert option in shown.out, option


def test_a_full_disk_the_folder_copied_whole_to_a_larger_one_is_the_same_box(tmp_path: Path) -> None:
    with box_in(tmp_path / "small") as box:
        fill(box)
        before = verification.verify(box, verification.Depth.EVERY_BYTE, actor="tests")
    shutil.copytree(tmp_path / "small", tmp_path / "large", symlinks=True)
    with box_in(tmp_path / "large") as box:
        after = verification.verify(box, verification.Depth.EVERY_BYTE, actor="tests")
    assert after == before


def test_the_end_of_a_box_without_its_keys_nothing_opens_not_even_with_the_paper(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    with box_in(folder) as box:
        fill(box)
        paper = str(keys.show_recovery(folder / "keys", box.root))
    shutil.rmtree(folder / "keys")
    before = sorted(str(each) for each in folder.rglob("*"))
    with pytest.raises(OperatorNeeded, match="their keys are gone"):
        open_box(config_in(folder))
    with pytest.raises(OperatorNeeded, match="there are no keys"):
        keys.reseal(folder / "keys", paper)
    assert sorted(str(each) for each in folder.rglob("*") if not each.name.startswith(".")) == [
        each for each in before if not Path(each).name.startswith(".")
    ], "nothing was made anew"
