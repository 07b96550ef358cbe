"""What the harness makes of how long a box was away: the figures it says, and what it reads in a journal."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.image import timed
from tests.image.test_configuration import BUILD, EXTRA, ROOT, settings

LEFT = "11111111-2222-3333-4444-555555555555"
"""The start in which the version that fails was chosen, as the kernel writes its number."""


def journal(*starts: tuple[str, float]) -> str:
    """As `journalctl --list-boots -o json` of systemd 257 says it: the number of each start, and when it began."""
    last = len(starts) - 1
    boots = [
        {
            "index": at - last,
            "boot_id": number.replace("-", ""),
            "first_entry": int(began * 1e6),
            "last_entry": int(began * 1e6) + 1,
        }
        for at, (number, began) in enumerate(starts)
    ]
    return json.dumps(boots)


def test_the_distribution_is_said_and_what_it_is_of_the_promise() -> None:
    assert timed.distribution([100, 190, 130], 120) == [
        "ready after a cut, emulated: min 100 s, median 130 s, 95 % within 190 s, max 190 s",
        "of the 120 s that are promised of a box: median × 1.08, max × 1.58; 1 of 3 within them",
    ]


def test_of_a_thousand_cuts_the_slowest_twentieth_is_told_apart() -> None:
    first, second = timed.distribution([*range(1, 951), *([1000.0] * 50)], 120)
    assert "95 % within 950 s, max 1000 s" in first
    assert "119 of 1000 within" in second


def test_what_takes_just_as_long_as_promised_is_not_within() -> None:
    assert timed.distribution([120], 120)[1].endswith("0 of 1 within them"), "less than 120 s: R2"


def test_where_nothing_was_timed_nothing_is_said() -> None:
    assert timed.distribution([], 120) == []


def test_a_roll_back_is_timed_from_the_first_start_until_what_serves_last_does() -> None:
    boots = journal(("00", 10), (LEFT, 500), ("a", 1000), ("b", 1400), ("c", 1800), ("d", 2200))
    found = timed.rolled_back(boots, LEFT, "@2290\n@2320\n")
    assert found == timed.RollBack(3, 1320, (400, 400, 400, 120))
    assert found.told() == (
        "1320 s after its first start of 3 (400, 400, 400, 120 s), emulated: × 4.40 of the 300 s that are promised of a box. "
        "900 s of it are the patience that its check has here alone; all the rest went at the speed of an emulated machine"
    )


def test_each_roll_back_is_kept_on_a_line_of_its_own(tmp_path: Path) -> None:
    file, at = tmp_path / "rolled-back.jsonl", datetime(2026, 11, 29, 14, tzinfo=UTC)
    for seconds in (1290.0, 1320.0):
        timed.RollBack(1, seconds, (1200.0, seconds - 1200)).record(file, "0.2.3", at)
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["seconds"], second["seconds"]) == (1290, 1320)
    assert second == {
        "starts": 1,
        "seconds": 1320,
        "each": [1200, 120],
        "given": 300,
        "version": "0.2.3",
        "at_utc": "2026-11-29T14:00:00+00:00",
    }


def test_what_the_check_is_given_is_what_its_units_say() -> None:
    unit = settings(EXTRA / "usr/lib/systemd/system/boot-check.service")
    assert unit["TimeoutStartSec"] == [f"{timed.CHECK_SECONDS:.0f}"]
    (minutes,) = re.findall(r"check=.*TimeoutStartSec=(\d+)min", (BUILD / "build").read_text())
    assert int(minutes) * 60 == timed.CHECK_SECONDS_HERE


def test_the_order_in_which_the_journal_lists_the_starts_is_no_matter() -> None:
    boots = json.dumps(list(reversed(json.loads(journal((LEFT, 500), ("a", 1000), ("d", 2200))))))
    assert timed.rolled_back(boots, LEFT, "@2290") == timed.RollBack(1, 1290, (1200, 90))


@pytest.mark.parametrize(
    ("starts", "serving"),
    [
        (((LEFT, 500), ("d", 2200)), "@2290"),
        (((LEFT, 500),), "@2290"),
        ((("a", 1000), ("d", 2200)), "@2290"),
        (((LEFT, 500), ("a", 1000), ("d", 2200)), ""),
        (((LEFT, 500), ("a", 1000), ("d", 2200)), "@2290\nn/a"),
        (((LEFT, 500), ("a", 1000), ("d", 2200)), "@999"),
    ],
    ids=[
        "no start of it",
        "nor of another",
        "another journal",
        "no unit",
        "one that does not serve",
        "a clock that went back",
    ],
)
def test_what_the_journal_does_not_have_is_no_figure(
    starts: tuple[tuple[str, float], ...], serving: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        timed.rolled_back(journal(*starts), LEFT, serving)


def test_the_journal_of_a_start_that_failed_is_kept() -> None:
    assert settings(ROOT / "systemd/journald.conf.d/appliance.conf")["Storage"] == ["persistent"]
