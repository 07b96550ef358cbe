"""WCAG 2.2 AA and an empty console where a page depends on what has happened: backups that are there and one that is read,
the ransomware guard holding, somebody of the vendor let in, and a lost box that comes back, stage by stage."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import identity, settings
from appliance.backup import drill
from appliance.box import Box, open_box
from appliance.catalog import destinations, rules, support_sessions
from appliance.config import Config, WebConfig
from appliance.errors import Transient
from appliance.fleet import support
from appliance.fleet.session import Ending, Scope
from appliance.lifecycle import freezing
from appliance.lifecycle.acting import Act
from appliance.lifecycle.mass_loss import Count
from appliance.model import DestinationSettings, Rule
from appliance.replication.destinations import prepare
from appliance.store import keys, succession
from appliance.store.recovery import RecoveryKey
from appliance.wizard import by_hand, progress, restoring, runs
from appliance.wizard.steps import DEFERRABLE
from tests.audit.support_routes import KEY
from tests.backup.conftest import IMAGES, Clinic, eventually
from tests.web import walk
from tests.web.conftest import LOGIN
from tests.web.served import PATIENCE_MS, Served, served, serving
from tests.web.test_accessibility import LOCALES, SCREENS, faults_of, signed_in
from tests.web.test_browser import SCREENSHOTS, browser
from tests.web.test_root_key import CLINIC

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

each_way = pytest.mark.parametrize("language", ["en", "fr"])
"""On a desk in English and on the narrowest phone in French; that no sentence lacks in any language is held elsewhere."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check(page: Page, name: str) -> None:
    """Nothing on the page is wrong; a person may look at it too."""
    assert faults_of(page) == [], name
    if SCREENSHOTS:
        language = page.locator("html").get_attribute("lang")
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}-{language}.png"), full_page=True)


# --- a box that has lived a little -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A box whose images are on a USB disk, with two backups there and a drill; another disk is away."""
    folder = tmp_path_factory.mktemp("lived")
    with served(folder / "box", free_port(), browser, eventually) as running:
        for name in ("hand-over", "usb", "away"):
            (folder / name).mkdir()
        keep_on_a_disk(running.box, folder / "usb")
        walk.furnish(running.box, str(folder / "hand-over"))
        away = prepare(DestinationSettings("away", "vault", "ciphertext", {"path": str(folder / "away")}))
        with running.box.catalog.transaction() as tx:
            number = destinations.add(tx, away)
        (folder / "away").rename(folder / "unplugged")
        by_hand.begin_backup(running.box, number, "tests")()
        yield running


def keep_on_a_disk(box: Box, folder: Path) -> None:
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(folder)}))
    with box.catalog.transaction() as tx:
        place = replace(place, id=destinations.add(tx, place))
        rules.add_rule(tx, Rule(place.id, place.name, place.takes))
    clinic = Clinic(box, place, keys.show_recovery(box.config.data / "keys", box.root))
    clinic.receive(*IMAGES[:2])  # what came before the rule is owed to nobody
    clinic.deliver()
    now = datetime.now(UTC)
    for each in (now - timedelta(days=1), now):
        clinic.back_up(each)
    assert drill.drill(box, place, now, actor="tests").passed


@contextmanager
def under_way(box: Box, name: str, percent: int) -> Iterator[None]:
    """Something begun by hand that is at `percent`."""
    told, go_on = threading.Event(), threading.Event()

    def act(tell: runs.Tell) -> runs.Detail:
        tell({"percent": percent})
        told.set()
        go_on.wait()
        return {"checked": 1, "away": 0}

    begun = runs.begin(box, name, secrets.token_hex(8), {"act": act})
    thread = threading.Thread(target=begun.finish)
    thread.start()
    assert told.wait(60)
    try:
        yield
    finally:
        go_on.set()
        thread.join(60)


def page_of_archive(lived: Served, name: str) -> str:
    with lived.box.catalog.reading() as conn:
        found = destinations.destination(conn, name)
    assert found is not None
    return f"{lived.address}/backups/{found.id}"


@pytest.fixture
def struck(lived: Served) -> Iterator[None]:
    """Half of a thousand images are gone, and the guard has held before."""
    act = Act("jobs", datetime.now(UTC), lived.box.audit_key)
    with lived.box.catalog.transaction() as tx:
        freezing.freeze(tx, act, reason="odd messages on two computers")
        freezing.release(tx, act, reason="it was a rehearsal")
        freezing.counted(tx, act, Count(1000, missing=500, opened=40), kept=1000)
    yield
    with lived.box.catalog.transaction() as tx:
        freezing.release(tx, act, reason="the test is over")


@pytest.fixture
def let_in(lived: Served) -> Iterator[None]:
    """A session of support that is open, with a visit; there was one before."""
    now, box = datetime.now(UTC), lived.box
    values = {
        "host": "192.0.2.1",
        "user": "box",
        "host_key": KEY,
        "authority": KEY,
        "mail": "help@vendor.example",
    }
    chosen = {f"support.{k}": v for k, v in values.items()}
    mail = {"mail.host": "192.0.2.1", "mail.from": "box@clinic.example"}
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, chosen | mail, actor="tests", now=now)
        for reason in ("the panoramic is not received", "deliveries wait"):
            if (standing := support_sessions.standing(tx)) is not None:
                support_sessions.end(tx, standing.id, Ending.CLINIC, "tests", now)
            made = support.open_session(
                tx, box, reason=reason, scope=Scope.OPERATE, hours=2, by="mtremblay", now=now
            )
            visit = support_sessions.begin_visit(tx, made.id, "Ana Roy", "7", now)
            support_sessions.add_event(tx, visit, support_sessions.Event(5, "o", "Ready.\n"))
            support.end_visit(tx, box, visit, now)
    yield
    with box.catalog.transaction() as tx:
        standing = support_sessions.standing(tx)
        assert standing is not None
        support_sessions.end(tx, standing.id, Ending.CLINIC, "tests", datetime.now(UTC))


@each_way
def test_backups_and_the_plan_are_for_everybody_when_there_is_something_in_them(
    lived: Served, language: str
) -> None:
    lived.complaints.clear()
    page = signed_in(lived, language, SCREENS[language])
    with under_way(lived.box, by_hand.VERIFY, 40):
        page.goto(f"{lived.address}/backups")
        expect(page.locator("#certificates + .table tbody tr")).to_have_count(1)
        expect(page.locator("#everything progress")).to_have_attribute("value", "40")
        expect(page.locator("main .note.bad").first).to_be_visible()
        check(page, "backups")
    for archive, name in ((page_of_archive(lived, "usb"), "held"), (page_of_archive(lived, "away"), "away")):
        page.goto(archive)
        expect(page.locator("main .table, main .note.bad")).to_have_count(1)
        check(page, f"backups-{name}")
    page.goto(f"{lived.address}/plan")
    check(page, "plan")
    page.context.close()
    assert lived.complaints == []


@each_way
def test_tiers_are_for_everybody_while_images_come_home_and_the_page_goes_on_by_itself(
    lived: Served, language: str
) -> None:
    lived.complaints.clear()
    page = signed_in(lived, language, SCREENS[language])
    with under_way(lived.box, by_hand.RETURN, 40):
        page.goto(f"{lived.address}/tiers")
        expect(page.locator("#act-return progress")).to_have_attribute("value", "40")
        check(page, "tiers-running")
    expect(page.locator("#act-return .note.good")).to_be_visible()
    check(page, "tiers-done")
    page.goto(f"{lived.address}/tiers/plan")
    check(page, "tiers-plan")
    page.context.close()
    assert lived.complaints == []


@each_way
def test_the_guard_that_holds_is_for_everybody(lived: Served, struck: None, language: str) -> None:
    lived.complaints.clear()
    page = signed_in(lived, language, SCREENS[language])
    page.goto(f"{lived.address}/guard")
    expect(page.locator("form[action='/guard/release']")).to_be_visible()
    check(page, "guard")
    page.goto(f"{lived.address}/health")
    check(page, "health-with-guard")
    page.context.close()
    assert lived.complaints == []


@each_way
def test_support_that_was_let_in_is_for_everybody(lived: Served, let_in: None, language: str) -> None:
    lived.complaints.clear()
    page = signed_in(lived, language, SCREENS[language])
    page.goto(f"{lived.address}/support")
    expect(page.locator("form[action$='/end']")).to_be_visible()
    check(page, "support-open")
    page.locator(".support-visits a").first.click()
    expect(page.locator("main .note.good")).to_be_visible()
    check(page, "support-recording")
    page.goto(f"{lived.address}/support")
    page.locator("form[action='/support/file'] button").click()
    expect(page.locator("form[action='/support/file/take']")).to_be_visible(timeout=4 * PATIENCE_MS)
    check(page, "support-file")
    page.locator("textarea[name='reason']").fill("LEVESQUE^HELENE is not there")
    page.locator("form[action='/support/file/send'] button").click()
    expect(page.locator("textarea[aria-invalid='true']")).to_be_visible()
    check(page, "support-ticket-refused")
    assert all("422" in each for each in lived.complaints), "what the browser says of a form that comes back"
    lived.complaints.clear()
    page.locator("textarea[name='reason']").fill("Backups fail since Monday")
    page.locator("form[action='/support/file/send'] button").click()
    expect(page.locator("#support-tickets")).to_be_visible()
    check(page, "support-ticket-sent")
    page.context.close()
    assert lived.complaints == []


# --- a lost box that comes back --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def usb(lived: Served) -> tuple[str, RecoveryKey]:
    """A disk from which a box can be restored, and its paper."""
    with lived.box.catalog.reading() as conn:
        found = destinations.destination(conn, "usb")
    assert found is not None
    return str(found.options["path"]), keys.show_recovery(lived.box.config.data / "keys", lived.box.root)


@pytest.fixture(scope="module")
def set_up(lived: Served, usb: tuple[str, RecoveryKey]) -> RecoveryKey:
    """The box is set up to its end: its paper was typed back."""
    box, now = lived.box, datetime.now(UTC)
    if not keys.recovery_confirmed(box.config.data / "keys"):
        keys.check_recovery(box.config.data / "keys", box.root, str(usb[1]))
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, CLINIC, actor="tests", now=now)
        for step in DEFERRABLE:
            progress.leave_for_later(tx, step, now)
        progress.finish(tx, LOGIN, now)
    return usb[1]


@each_way
def test_a_new_root_key_is_for_everybody(lived: Served, set_up: RecoveryKey, language: str) -> None:
    lived.complaints.clear()
    page = signed_in(lived, language, SCREENS[language])
    page.goto(f"{lived.address}/setup/recovery")
    expect(page.locator("form[action='/setup/recovery/root']")).to_be_visible()
    check(page, "root-key")
    page.locator("[name=paper]").fill(str(set_up)[:-1])
    page.locator("form[action='/setup/recovery/root'] button").click()
    expect(page.locator("#root-key .wrong")).to_be_visible()
    check(page, "root-key-mistyped")
    with under_way(lived.box, by_hand.ROTATION, 40):
        page.goto(f"{lived.address}/setup/recovery")
        expect(page.locator("#root-key progress")).to_be_visible()
        check(page, "root-key-running")
    page.context.close()
    assert [each for each in lived.complaints if "422" not in each] == []


@pytest.fixture
def blank(browser: Browser, tmp_path: Path) -> Iterator[Served]:
    """A box out of its carton."""
    box = open_box(Config(data=tmp_path / "blank", web=WebConfig(port=free_port())))
    with serving(box, browser, eventually) as running:
        yield running
    box.close()


@contextmanager
def silent_server() -> Iterator[tuple[int, Callable[[], None]]]:
    """A server that takes calls and says nothing until it is told to hang up."""
    calls: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                calls.append(listener.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()

    def hang_up() -> None:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in calls:
            each.close()

    yield listener.getsockname()[1], hang_up
    hang_up()


def stage(page: Page, name: str) -> None:
    expect(page.locator("#restore")).to_have_attribute("data-stage", name, timeout=PATIENCE_MS)


def press(page: Page, act: str) -> None:
    page.locator(f"form[action='/setup/restore/{act}'] button").click()


@each_way
def test_restoring_is_for_everybody_at_each_stage(
    blank: Served, usb: tuple[str, RecoveryKey], language: str
) -> None:
    path, paper = usb
    screen = SCREENS[language]
    page = blank.page(
        blank.context(LOCALES[language], width=screen.width, height=screen.height, dark=screen.dark)
    )
    page.goto(f"{blank.address}/setup/restore")
    stage(page, "code")
    check(page, "restore-code")
    page.locator("[name=code]").fill("0000-0000")
    press(page, "code")
    expect(page.locator("#form-error")).to_be_visible()
    check(page, "restore-wrong-code")
    page.locator("[name=code]").fill(identity.claim_code(blank.box) or "")
    press(page, "code")
    stage(page, "source")
    for kind in ("bucket", "server", "share", "disk"):
        page.locator(f"[name=kind][value={kind}]").check()
        check(page, f"restore-{kind}")
    with silent_server() as (port, hang_up):
        page.locator("[name=kind][value=server]").check()
        for name, typed in {
            "address": "127.0.0.1",
            "port": str(port),
            "folder": "backup",
            "user": "box",
            "password": "geheim",
            "key": str(paper),
        }.items():
            page.locator(f"main [name={name}]").fill(typed)
        press(page, "look")
        stage(page, "looking")
        check(page, "restore-looking")
        hang_up()
        stage(page, "source")
    expect(page.locator("#found")).to_be_visible()
    check(page, "restore-unreached")
    page.locator("[name=kind][value=disk]").check()
    page.locator("[name=path]").fill(path)
    page.locator("[name=key]").fill(str(paper)[:-1])
    press(page, "look")
    expect(page.locator("#form-error")).to_be_visible()
    check(page, "restore-mistyped")
    page.locator("[name=key]").fill(str(paper))
    press(page, "look")
    stage(page, "found")
    expect(page.locator("#found tbody tr")).to_have_count(2)
    check(page, "restore-found")
    with being_restored(blank.box):
        page.goto(f"{blank.address}/setup/restore")
        stage(page, "running")
        check(page, "restore-running")
    page.goto(f"{blank.address}/setup/restore")
    stage(page, "found")
    expect(page.locator("#found .note.bad")).to_be_visible()
    check(page, "restore-failed")
    incoming = blank.box.config.data / succession.INCOMING
    incoming.mkdir()
    page.goto(f"{blank.address}/setup/restore")
    stage(page, "leaving")
    check(page, "restore-leaving")
    incoming.rmdir()
    with blank.box.catalog.transaction() as tx:
        destinations.add(tx, DestinationSettings("pacs", "folder", "dicom", {"path": "/srv/pacs"}))
    page.goto(f"{blank.address}/setup/restore")
    stage(page, "closed")
    check(page, "restore-closed")
    page.context.close()
    refused = [each for each in blank.complaints if "422" not in each]
    assert refused == []


@contextmanager
def being_restored(box: Box) -> Iterator[None]:
    """A restore that is half through the index, and then is cut."""
    told, go_on = threading.Event(), threading.Event()

    def bring(tell: runs.Tell) -> runs.Detail:
        tell({"stage": "catalog", "done": 3_000_000, "all": 6_000_000})
        told.set()
        go_on.wait()
        raise Transient("the restore was stopped", hint="try again: it goes on where it was")

    begun = runs.begin(box, restoring.RUN, "tests", {"bring": bring, "service": bring})
    thread = threading.Thread(target=begun.finish)
    thread.start()
    assert told.wait(60)
    try:
        yield
    finally:
        go_on.set()
        thread.join(60)
