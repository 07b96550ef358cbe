"""What systemd says of the units, in the support file of a box whose walls let the appliance ask nothing."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.box import open_box
from appliance.catalog.known_clock import Running
from appliance.config import Config, StoreConfig
from appliance.fleet import bundle, units
from appliance.health import kernel_clock
from tests.image.test_configuration import EXTRA, allowed, settings

PROGRAM = EXTRA / "usr/lib/appliance/libexec/unit-states"
UNITS = EXTRA / "usr/lib/systemd/system"
SAID = """Id=update.service
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code

Id=appliance-web.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success

Id=appliance-none.service
LoadState=not-found
"""


def test_the_support_file_says_how_the_units_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's program runs, with a systemctl that answers; the appliance starts none."""
    told = tmp_path / "told"
    told.mkdir()
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/asked\ncat <<'E'\n{SAID}E\n")
    systemctl.chmod(0o755)
    subprocess.run(
        [PROGRAM, told], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, capture_output=True
    )
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["show", "--no-pager", f"--property={','.join(units.FIELDS)}", "--", *units.PATTERNS]
    assert (told / "states").stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr(units, "TOLD", told / units.TOLD.name)
    monkeypatch.setenv("PATH", "/nowhere")
    box = open_box(Config(data=tmp_path / "box", store=StoreConfig(reserve_bytes=0)))
    try:
        said = json.loads(bundle.make(box, datetime.now(UTC)).files["units.json"])
        (told / "states").write_text(SAID)
        unsaid = json.loads(bundle.make(box, datetime.now(UTC)).files["units.json"])
    finally:
        box.close()
    found = {each["Id"]: each for each in said["units"]}
    assert said["seconds_ago"] in range(60), "by no clock that anybody sets"
    assert unsaid["seconds_ago"] is None
    assert set(found) == {"update.service", "appliance-web.service"}
    assert found["update.service"]["Result"] == "exit-code"


def test_how_old_what_is_said_is_goes_by_how_long_the_machine_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd is asked at once, that is no time at all."""
    monkeypatch.setattr(units, "TOLD", tmp_path / "states")
    for began, ended, ago in ((100, 7300, 7200), (100, 100, 0), (101, 100, 0)):
        units.TOLD.write_text(f"OnForSeconds={began}\n\n{SAID}")
        monkeypatch.setattr(kernel_clock, "running", lambda: Running("boot", timedelta(seconds=ended)))  # noqa: B023
        assert units.unit_states()["seconds_ago"] == ago
    units.TOLD.unlink()
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\ncat <<'E'\n{SAID}E\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = units.unit_states()
    assert said["seconds_ago"] == 0
    assert [each["Id"] for each in said["units"]] == ["update.service", "appliance-web.service"]


def test_the_appliance_may_read_what_the_image_writes() -> None:
    assert allowed(str(units.TOLD)) == {"r"}
    (starts,) = settings(UNITS / "unit-states.service")["ExecStart"]
    assert starts == f"/usr/lib/appliance/libexec/unit-states {units.TOLD.parent}"
    assert settings(UNITS / "unit-states.service")["RuntimeDirectory"] == [units.TOLD.parent.name]


def test_each_unit_of_the_image_that_does_something_is_among_them() -> None:
    """Or what failed on a box isn't in the file that says how it does."""
    others = {"autovt@", "debug-shell", "emergency", "getty@", "install", "serial-getty@", "rescue"}
    ours = {
        each.stem
        for each in UNITS.iterdir()
        if each.is_file()
        and not each.is_symlink()
        and each.stem not in others
        and "systemd-" not in each.stem
    }
    left = {each for each in ours if not any(Path(each).match(pattern) for pattern in units.PATTERNS)}
    assert left <= {"media-backup", "swap"}, left
