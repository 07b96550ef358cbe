"""Somebody of the clinic before a box: reads its screen, becomes its owner in the console, and does there what no command does."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from urllib.error import HTTPError

from appliance.disk_key import SHOWN_FOR
from tests.image.machine import PATIENCE_SECONDS, Machine
from tests.image.promises import kept
from tests.image.screen import on_screen
from tests.system.browser import Browser

LOGIN, PASSWORD = "odile", "a sentence that is hers alone"
LOOK_SECONDS = 5.0
KEY_SHOWN_SECONDS = SHOWN_FOR.total_seconds()
KEY_HIDDEN_SECONDS = KEY_SHOWN_SECONDS / 2


def claim_code(lines: Sequence[str]) -> str:
    """The claim code among what stands on the screen; empty if there is none."""
    found = re.search(r"Claim code +([0-9A-Z]{4}-[0-9A-Z]{4})", "\n".join(lines))
    return found[1] if found else ""


def disk_key(lines: Sequence[str]) -> str:
    """The key of the disk, on the two lines after the one that announces it; empty if there is none."""
    places = [place for place, line in enumerate(lines) if line.strip().startswith("Disk key")]
    return "".join(line.strip() for line in lines[places[0] + 1 : places[0] + 3]) if places else ""


def reads_claim_code(machine: Machine) -> str:
    """Off the machine's own screen."""
    lines = on_screen(machine)
    code = claim_code(lines)
    kept("its screen shows a claim code", code != "", "\n".join(lines))
    return code


def becomes_owner(machine: Machine) -> Browser:
    """With the code from the screen, in the console; she is signed in then."""
    code = reads_claim_code(machine)
    browser = Browser(machine.ports[443], tls=True)
    browser.claim(code, login=LOGIN, name="Odile Roy", password=PASSWORD)
    kept("somebody types it in the console, and is the box's owner", True)
    return browser


def sees_pictures(machine: Machine, browser: Browser, instances: Sequence[int]) -> None:
    """Small and whole: a process within the walls of the console's draws each."""
    for each in instances:
        for kind in ("thumbnail", "image"):
            path = f"/instances/{each}/{kind}"
            try:
                drawn = browser.get(path)
            except HTTPError as error:
                drawn = error.read()
            is_picture = drawn.startswith((b"\xff\xd8\xff", b"\x89PNG"))
            said = (
                "" if is_picture else machine.inside("journalctl -b -u appliance-web -n 20 --no-pager -o cat")
            )
            kept(f"a picture is shown: {kind}", is_picture, f"{drawn[:300]!r}\n{said}")


def prints_a_paper(browser: Browser) -> None:
    """The plan for a disaster, which the console sets within its walls."""
    paper = browser.posted("/plan/pdf", on="/plan")
    kept("and a paper is set", paper.startswith(b"%PDF-"), repr(paper[:300]))


def sees_disk_key_again(machine: Machine, browser: Browser, first: str) -> None:
    """*The recovery key is lost* 7: the disk's, which the screen showed at `first`; it shows none now."""
    shown = time.monotonic()
    browser.post("/disk-pin/key", on="/disk-pin")
    machine.wait_until("grep -aq 'Disk key' /dev/vcs1")
    lines = on_screen(machine)
    kept(
        "asked for in the console, it shows the key of the disk once more",
        disk_key(lines) == first,
        "\n".join(lines),
    )
    browser.post("/disk-pin/key/hide", on="/disk-pin")
    machine.wait_until("! grep -aq 'Disk key' /dev/vcs1", seconds=KEY_HIDDEN_SECONDS)
    kept(
        "taken off the screen, it is gone, and not by its time alone",
        time.monotonic() < shown + KEY_SHOWN_SECONDS,
    )


def adds_a_disk(browser: Browser, name: str, path: str) -> None:
    """*Destinations*, *Add a destination*: sealed, and for everything that arrives."""
    try:
        page = browser.post("/destinations/new/vault", name=name, path=path, everything="1")
    except HTTPError as error:  # the form once more, with what is wrong
        page = error.read().decode()
    kept(
        "in the console the disk becomes an archive", f">{name}</a>" in page and "note bad" not in page, page
    )


def backs_up(browser: Browser) -> None:
    """*Backups*, *Back up now*, at the only archive."""
    card = tried(browser, "make")
    kept("*Back up now* lays a backup there", outcomes(card)[:1] == ["good"], card)


def drills(browser: Browser) -> None:
    """*Backups*, *Run the drill now*, at the only archive."""
    card = tried(browser, "drill")
    kept("and *Run the drill now* opens it: the drill passes", outcomes(card)[1:] == ["good"], card)


def tried(browser: Browser, act: str) -> str:
    """What the page says of the only archive once `act` there is over."""
    page = browser.get("/backups").decode()
    found = re.search(rf'action="(/backups/\d+/{act})"', page)
    kept(f"the page of the backups has a button for it: {act}", found is not None, page)
    assert found is not None
    page = browser.post(found[1], on="/backups")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while 'class="under-way"' in page:
        assert time.monotonic() < deadline, page
        time.sleep(LOOK_SECONDS)
        page = browser.get("/backups").decode()
    return page.partition('id="archive-')[2].partition("</section>")[0]


def outcomes(card: str) -> list[str]:
    """How an archive's last backup and its last drill went; nothing where what a person began has failed, whatever the box did by itself."""
    if 'class="note bad"' in card:
        return []
    return re.findall(r'<dd><span class="number">[^<]*</span> <span class="badge (\w+)">', card)


def restores(browser: Browser, code: str, path: str, paper: str) -> None:
    """On the first page of a new box: from the copies at `path`, with the recovery key on paper. It starts anew then."""
    here = "/setup/restore"
    browser.post(f"{here}/code", on=here, code=code)
    browser.post(f"{here}/look", on=here, kind="disk", path=path, key=paper)
    page = turned(browser, "looking")
    kept("on the first page of the new box's console a backup is found", stage(page) == "found", page)
    browser.post(f"{here}/start", on=here)
    page = turned(browser, "found", "running")
    kept("it is restored", stage(page) in ("leaving", "closed", ""), page)


def turned(browser: Browser, *while_at: str) -> str:
    """The page of restoring once it is past those stages; empty where the console starts anew meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            page = browser.get("/setup/restore").decode()
        except OSError:  # an answer that is an error is one, too
            return ""
        # After a failure it is at "found" again, and says why.
        if stage(page) not in while_at or (stage(page) == "found" and 'class="note bad"' in page):
            return page
        assert time.monotonic() < deadline, page
        time.sleep(LOOK_SECONDS)


def stage(page: str) -> str:
    """How far restoring is, as its page has it; empty for another page."""
    found = re.search(r'id="restore" data-stage="(\w+)"', page)
    return found[1] if found else ""
