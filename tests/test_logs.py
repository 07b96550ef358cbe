"""What the processes write: one line an event in either form, and never what an exception says."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.logs import JSON, TEXT, JsonLines, Lines, configure

NAME = "CÔTÉ-LÉVESQUE^Hélène"


def record(
    message: str, *values: object, error: BaseException | None = None, **extra: object
) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error is not None else None
    made = logging.LogRecord("appliance.web.problems", logging.ERROR, __file__, 1, message, values, told)
    made.__dict__.update(extra)
    return made


def caught() -> BaseException:
    try:
        raise KeyError(NAME)
    except KeyError as error:
        return error


def test_an_event_is_one_json_object_on_one_line() -> None:
    line = JsonLines("dicom-1").format(
        record("refused: device=%s\nstatus=%s", "PANO1", "A700", reference="1A2B")
    )
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["process"], told["logger"]) == ("ERROR", "dicom-1", "appliance.web.problems")
    assert told["event"] == "refused: device=PANO1\nstatus=A700"
    assert told["reference"] == "1A2B"
    assert set(told) == {"at_utc", "level", "process", "logger", "event", "reference"}


@pytest.mark.parametrize("formatter", [JsonLines("web"), Lines()])
def test_an_exception_is_told_by_its_kind_and_places_and_not_in_its_own_words(
    formatter: logging.Formatter,
) -> None:
    line = formatter.format(record("it failed", error=caught()))
    assert "KeyError" in line
    assert "test_logs.py:" in line
    assert NAME not in line
    assert "\n" not in line


@pytest.mark.parametrize("formatter", [JsonLines("web"), Lines()])
@pytest.mark.parametrize(
    "forged",
    ["PANO\nERROR appliance.web: all is lost", "a\r\nb", "\x1b[2J\x1b[31m", "x\u2028y", "z\x00\x85\x9b31m"],
)
def test_nothing_from_outside_can_make_a_line_or_drive_a_terminal(
    formatter: logging.Formatter, forged: str
) -> None:
    line = formatter.format(record("an unknown caller was refused: %s", forged))
    assert len(line.splitlines()) == 1
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in line)
    assert "an unknown caller was refused" in line


def test_names_with_accents_stay_readable() -> None:
    assert "Hélène · 雨" in Lines().format(record("device %s", "Hélène · 雨"))


def test_a_readable_line_ends_with_its_reference() -> None:
    assert Lines().format(record("Refused at %s", "studies.study", reference="1A2B3C4D")) == (
        "ERROR appliance.web.problems: Refused at studies.study [1A2B3C4D]"
    )


@pytest.mark.parametrize("form", [TEXT, JSON])
def test_a_process_logs_as_it_is_configured(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure("courier", "INFO", form)
        logging.getLogger("appliance.test").info("hello")
        said = capsys.readouterr().err
    finally:
        root.handlers, root.level = before, level
    if form == JSON:
        assert json.loads(said)["process"] == "courier"
    else:
        assert said == "INFO appliance.test: hello\n"


LIBRARY = """
import sys
from pathlib import Path
import pydicom
from appliance import logs
logs.configure("jobs", "INFO", "text", Path(sys.argv[1]))
try:
    pydicom.DataElement(0x00281050, "DS", "Zzyzxmarker")
except ValueError:
    pass
"""


def test_what_a_dicom_library_complains_of_is_in_no_log(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", LIBRARY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    kept = "".join(each.read_text() for each in tmp_path.rglob("*.log"))
    assert "Zzyzxmarker" not in said.stderr + said.stdout + kept
