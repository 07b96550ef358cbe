"""What is lit of the firmware's setup, by which the walk stands."""

import pytest

from tests.image.firmware import lit

PLAIN, WHITE, FOOT = "\x1b[0m\x1b[30m\x1b[47m", "\x1b[0m\x1b[37m\x1b[40m", "\x1b[23;03H^v=Move Highlight"
BLUE, CYAN = "\x1b[0m\x1b[37m\x1b[44m", "\x1b[1m\x1b[37m\x1b[46m"


@pytest.mark.parametrize(
    ("drawn", "line"),
    [
        (f"{WHITE}{FOOT}", ""),
        (f"{WHITE}\x1b[10;04HDevice Manager{PLAIN}\x1b[10;18H   ", "Device Manager"),
        (
            f"{WHITE}\x1b[22;03H      {PLAIN}\x1b[11;04H> {WHITE}\x1b[12;04HTCG2 Configuration{FOOT}",
            "TCG2 Configuration",
        ),
        (f"{WHITE}\x1b[16;31H[X]{PLAIN}\x1b[16;04H  PCR Bank: SHA1", "[X]"),
        (
            f"{BLUE}\x1b[08;07HNo Action{CYAN}\x1b[11;07HTPM2 ClearControl(NO) + Clear{BLUE}\x1b[12;07HTPM2 ChangeEPS",
            "TPM2 ClearControl(NO) + Clear",
        ),
        (f"{WHITE}\x1b[07;04HNow lit{PLAIN}\x1b[07;04HNow lit{WHITE}\x1b[08;04HThen this", "Then this"),
    ],
)
def test_the_line_that_enter_would_take_is_the_one_that_is_lit(drawn: str, line: str) -> None:
    assert lit(drawn) == line
