"""A lost box comes back in Debian's Chromium: a blank box under `appliance run`, the paper, a bucket, and a process killed
on the way; then the old account signs in."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import pytest
from playwright.sync_api import Browser, expect

from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.replication import cloud as clouds
from tests.replication.cloud import Cloud
from tests.system.running import Appliance, wait_for
from tests.web.conftest import LOGIN, PASSWORD, add_owner
from tests.web.test_browser import PATIENCE_MS, browser
from tests.web.test_setup_browser import Walk, blank, walk

__all__ = ["blank", "browser", "walk"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Gate:
    """A line to a server that can be held: whoever calls meanwhile waits."""

    port: int
    open: threading.Event = field(default_factory=threading.Event)


@contextmanager
def gate(to: int) -> Iterator[Gate]:
    with ExitStack() as ends:
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        made = Gate(listener.getsockname()[1])
        made.open.set()

        def carry(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while piece := source.recv(65536):
                    made.open.wait()
                    target.sendall(piece)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection(("127.0.0.1", to))
                    for source, target in ((near, far), (far, near)):
                        ends.callback(source.close)
                        threading.Thread(target=carry, args=(source, target), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield made
        made.open.set()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with clouds.cloud() as running:
        yield running


@pytest.fixture(scope="module")
def lost(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A box that is no more: its bucket, its paper, and the person who worked with it."""
    place = clouds.settings(cloud.url, cloud.new_bucket(versioned=True))
    with clinic_in(tmp_path_factory.mktemp("lost") / "data", place) as clinic:
        add_owner(clinic.box)
        clinic.receive(*IMAGES[:4])
        clinic.deliver()
        clinic.back_up()
        yield clinic


def claim_code(box: Appliance) -> str:
    """The last one that the box has printed."""
    return re.findall(r"Claim code (\w{4}-\w{4})", box.log())[-1]


def web_process(box: Appliance) -> psutil.Process:
    (found,) = [each for each in box.family() if each.cmdline()[2:4] == ["appliance", "web"]]
    return found


def type_code(walk: Walk) -> None:
    walk.fill(code=claim_code(walk.box))
    walk.press("/setup/restore/code")


def stage(walk: Walk, name: str) -> None:
    expect(walk.page.locator("#restore")).to_have_attribute("data-stage", name, timeout=PATIENCE_MS)


def test_a_blank_box_becomes_the_lost_one_through_a_mistyped_key_and_a_killed_process(
    walk: Walk, lost: Clinic, cloud: Cloud, browser: Browser
) -> None:
    page, at = walk.page, walk.page.locator("#restore")
    bucket, paper = str(lost.place.options["bucket"]), str(lost.paper)
    with gate(int(cloud.url.rsplit(":", 1)[1])) as line:
        walk.goto("/")
        page.locator("a.choice").click()
        stage(walk, "code")
        walk.look("restore-code")
        type_code(walk)
        stage(walk, "source")
        page.locator("[value=disk]").check()
        walk.look("restore-disk")
        page.locator("[value=bucket]").check()
        place = (bucket, f"http://127.0.0.1:{line.port}")
        type_place(walk, *place)
        groups = paper.split("-")
        wrong = [*groups[:6], ("2" if groups[6][0] != "2" else "3") + groups[6][1:], *groups[7:]]
        walk.fill(key="-".join(wrong))
        walk.press("/setup/restore/look")
        expect(page.locator("#form-error")).to_contain_text(
            "Group 7 of the recovery key is mistyped", timeout=PATIENCE_MS
        )
        walk.look("restore-mistyped")
        walk.fill(key=str(RecoveryKey.generate()))
        walk.press("/setup/restore/look")
        expect(at).to_contain_text("but none that opens this archive", timeout=PATIENCE_MS)
        walk.look("restore-wrong-key")
        walk.fill(key=paper)
        walk.press("/setup/restore/look")
        stage(walk, "found")
        expect(at.locator("tbody tr")).to_have_count(1)
        expect(at).to_contain_text("4 images", timeout=PATIENCE_MS)
        walk.look("restore-found")
        in_french(walk, browser, place, paper)
        walk.goto("/setup/restore")
        type_code(
            walk
        )  # another browser has typed it since: it kept no secret of this one, nor this one of it
        stage(walk, "source")
        type_place(walk, *place)
        walk.fill(key=paper)
        walk.press("/setup/restore/look")
        stage(walk, "found")
        line.open.clear()
        walk.press("/setup/restore/start")
        stage(walk, "running")
        walk.look("restore-running")
        killed = web_process(walk.box)
        killed.kill()
        line.open.set()
        wait_for(lambda: walk.box.get("/health/live")[0] == 200, "the console is back")
        walk.goto("/setup/restore")
        stage(walk, "code")
        type_code(walk)
        expect(at).to_contain_text("A restore was interrupted", timeout=PATIENCE_MS)
        expect(page.locator("[name=bucket]")).to_have_value(bucket, timeout=PATIENCE_MS)
        walk.look("restore-interrupted")
        walk.fill(secret="tests", key=paper)
        walk.press("/setup/restore/look")
        stage(walk, "found")
        walk.press("/setup/restore/start")
        expect(page).to_have_url(re.compile(r"/sign-in$"), timeout=4 * PATIENCE_MS)
    page.locator("[name=login]").fill(LOGIN)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button.primary").click()
    page.locator(".side").wait_for()
    walk.goto("/studies")
    expect(page.locator("#rows .study").first).to_be_visible(timeout=PATIENCE_MS)
    while_it_starts_again = ("422", "ERR_", "Failed to fetch", "htmx-request")
    told = [each for each in walk.complaints if not any(word in each for word in while_it_starts_again)]
    assert told == []
    assert walk.box.log().count("The restored box takes its place") == 1
    assert walk.box.processes["run"].poll() is None, "it is the same `run`"
    assert paper not in walk.box.log()


def type_place(walk: Walk, bucket: str, endpoint_url: str) -> None:
    """Where the copies are. The words of the last visitor are still there, and then the part is open; a secret never is."""
    if not walk.page.locator("[name=endpoint_url]").input_value():
        walk.page.locator("main details summary", has_text="Amazon").click()
    expect(walk.page.locator("[name=secret]")).to_have_value("")
    walk.page.locator("[name=canadian]").check()
    walk.fill(
        bucket=bucket,
        region="ca-central-1",
        access_key_id="tests",
        secret="tests",
        endpoint_url=endpoint_url,
    )


def in_french(walk: Walk, browser: Browser, place: tuple[str, str], paper: str) -> None:
    """The same pages in French, by another person at another browser."""
    context = browser.new_context(locale="fr-CA", viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    other = Walk(walk.box, page, "fr")
    other.goto("/setup/restore")
    expect(page.locator("h1")).to_have_text("Restaurer une sauvegarde", timeout=PATIENCE_MS)
    other.look("restore-code")
    type_code(other)
    stage(other, "source")
    type_place(other, *place)
    other.fill(key=paper)
    other.press("/setup/restore/look")
    stage(other, "found")
    expect(page.locator("#restore")).to_contain_text("la plus récente", timeout=PATIENCE_MS)
    other.look("restore-found")
    other.press("/setup/restore/elsewhere")
    expect(page.locator("#restore")).to_contain_text("La clé de récupération du tiroir", timeout=PATIENCE_MS)
    other.look("restore-source")
    context.close()
