"""The whole setting up in Debian's Chromium, from a blank box to the report, over `appliance run` and a real bucket."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from appliance.store.recovery import RecoveryKey
from appliance.wizard.steps import Step
from tests import synthetic
from tests.replication import cloud as clouds
from tests.replication.cloud import Cloud
from tests.replication.receivers import storescp
from tests.system.dcmtk import storescu
from tests.system.running import MIB, Appliance, wait_for
from tests.web.conftest import PASSWORD
from tests.web.test_accessibility import faults_of
from tests.web.test_browser import PATIENCE_MS, SCREENSHOTS, browser

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

WIDTHS = {"desktop": (1440, 900), "tablet": (834, 1112), "phone": (390, 844)}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with clouds.cloud() as running:
        yield running


@pytest.fixture
def blank(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Appliance]:
    """A box out of its carton: nothing is set up, nobody is known; all four processes run."""
    made = Appliance(tmp_path / "box", free_port(), free_port(), tmp_path / "box" / "data")
    made.temporary.mkdir(parents=True)
    (made.folder / "appliance.toml").write_text(
        f'data = "{made.data}"\n'
        f'[dicom]\nbind = "127.0.0.1"\nport = {made.dicom_port}\nworkers = 1\n'
        f"[web]\nport = {made.web_port}\n"
        f"[store]\nreserve_bytes = 0\nlog_bytes = {16 * MIB}\n"
    )
    try:
        made.start("run")
        yield made
        made.stop()
    finally:
        for process in made.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


@dataclass
class Walk:
    """One person at one browser, in one language."""

    box: Appliance
    page: Page
    language: str
    complaints: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.box.web_port}"

    def goto(self, path: str) -> None:
        self.page.goto(self.address + path)

    def at(self, step: str) -> None:
        """The page of `step` is open, marked in the list, and for everybody; look at it at every width."""
        expect(self.page).to_have_url(re.compile(rf"/({step}|setup/{step})([#?].*)?$"), timeout=PATIENCE_MS)
        expect(self.page.locator(".setup-steps [aria-current=step]")).to_have_count(1)
        self.check(step)
        self.look(step)

    def check(self, name: str) -> None:
        """Nothing on the page is wrong for who cannot see it, or uses no mouse: axe and our own habits, on desk and phone."""
        self.checked.add(name)
        for across, down in (WIDTHS["desktop"], WIDTHS["phone"]):
            self.page.set_viewport_size({"width": across, "height": down})
            assert faults_of(self.page) == [], f"{name} in {self.language}, {across} wide"
        across, down = WIDTHS["desktop"]
        self.page.set_viewport_size({"width": across, "height": down})

    def look(self, name: str) -> None:
        if not SCREENSHOTS:
            return
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        for width, (across, down) in WIDTHS.items():
            self.page.set_viewport_size({"width": across, "height": down})
            if width != "desktop":
                self.page.locator(".setup-steps details").evaluate_all(
                    "all => all.forEach(one => one.open = false)"
                )
            self.page.screenshot(
                path=str(Path(SCREENSHOTS) / f"{name}-{self.language}-{width}.png"), full_page=True
            )
        self.page.set_viewport_size({"width": 1440, "height": 900})
        self.page.locator(".setup-steps details").evaluate_all("all => all.forEach(one => one.open = true)")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            self.page.locator(f"main form [name={name}]:not([type=hidden])").last.fill(value)

    def press(self, action: str) -> None:
        """The button of the form that goes to `action`."""
        self.page.locator(f"main form[action='{action}'] button").last.click()

    def onward(self) -> None:
        self.page.locator(".setup-onward a.primary").click()

    def again_if_asked(self) -> None:
        """Prove who it is, if some time has passed since."""
        if self.page.locator("[name=confirm_password]").count():
            self.page.locator("[name=confirm_password]").fill(PASSWORD)
            self.page.locator("main button.primary").click()


@pytest.fixture
def walk(blank: Appliance, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Walk]:
    locale = getattr(request, "param", "en-CA")
    context = browser.new_context(locale=locale, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    made = Walk(blank, page, locale[:2])
    page.on(
        "console",
        lambda each: made.complaints.append(each.text) if each.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    yield made
    context.close()


def claim(walk: Walk) -> None:
    found = re.search(r"Claim code (\w{4}-\w{4})", walk.box.log())
    assert found is not None
    walk.fill(code=found[1], name="Marie Tremblay", login="marie", password=PASSWORD, again=PASSWORD)
    walk.press("/claim")


def name_clinic(walk: Walk) -> None:
    walk.fill(
        name="Clinique dentaire Tremblay",
        address="12, rue des Érables",
        privacy_officer_name="Luc Gagné",
        privacy_officer_email="luc@clinique.example",
    )
    walk.press("/setup/clinic")


def enrol(walk: Walk) -> None:
    """Add one-time codes, on the page where everybody does."""
    walk.press("/me/second-factor/add")
    walk.again_if_asked()
    walk.page.locator("form[action='/enrol/code'] button").click()
    secret = walk.page.locator("[data-secret]").text_content() or ""
    walk.page.locator("[name=code]").fill(pyotp.TOTP(re.sub(r"\s", "", secret)).now())
    walk.page.locator("form[action='/enrol/code/confirm'] button").click()
    expect(walk.page).to_have_url(re.compile("/me"))
    walk.goto("/setup/account")
    expect(walk.page.locator("main .badge.good")).to_be_visible()
    walk.onward()


def print_and_type_back(walk: Walk, folder: Path) -> None:
    """Read the key off the sheet, as a person would; first with a wrong letter, then another box's, then right."""
    page = walk.page
    walk.look("recovery-open")
    token = page.locator("main [name=csrf]").first.input_value()
    answer = page.request.post(f"{walk.address}/setup/recovery/sheet", form={"csrf": token})
    assert answer.headers["content-type"] == "application/pdf", answer.text()[:500]
    assert answer.headers["cache-control"] == "no-store"
    read = subprocess.run(
        ["pdftotext", "-layout", "-", "-"], input=answer.body(), capture_output=True, check=True
    ).stdout.decode()
    groups = re.findall(r"\b[0-9A-HJKMNP-TV-Z]{5}\b", read)
    assert len(groups) == 9
    if SCREENSHOTS:
        drawn = ["pdftoppm", "-r", "70", "-png", "-", str(Path(SCREENSHOTS) / f"sheet-{walk.language}")]
        subprocess.run(drawn, input=answer.body(), check=True)
    wrong = [*groups[:6], ("2" if groups[6][0] != "2" else "3") + groups[6][1:], *groups[7:]]
    walk.fill(key="-".join(wrong))
    walk.press("/setup/recovery")
    expect(page.locator("#form-error")).to_contain_text("7")
    walk.check("recovery-mistyped")
    walk.look("recovery-mistyped")
    walk.fill(key=str(RecoveryKey.generate()))
    walk.press("/setup/recovery")
    expect(page.locator("#form-error")).to_contain_text(
        "but not this box" if walk.language == "en" else "mais pas celle de ce boîtier"
    )
    walk.fill(key=" ".join(groups).lower())
    walk.press("/setup/recovery")


def copy_to_the_cloud(walk: Walk, cloud: Cloud) -> None:
    """First abroad, then where nobody answers, then right: each time the page says which."""
    page = walk.page
    walk.fill(bucket="clinic", region="us-east-1", access_key_id="tests", secret="tests")
    walk.press("/setup/storage/cloud")
    walk.again_if_asked()
    expect(page.locator("#form-error")).to_contain_text("Canada")
    page.locator("main details summary", has_text="Amazon").click()
    bucket = cloud.new_bucket()
    walk.fill(bucket=bucket, region="ca-central-1", secret="tests", endpoint_url="http://127.0.0.1:9")
    page.locator("[name=canadian][type=checkbox]").check()
    page.locator("form[action='/setup/storage/cloud']").first.locator("button").click()
    walk.again_if_asked()
    expect(page.locator("#test .is-failed")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#test")).to_contain_text("Try again" if walk.language == "en" else "Réessayer")
    walk.check("storage-failed")
    walk.look("storage-failed")
    page.locator("[name=endpoint_url]:not([type=hidden])").fill(cloud.url)
    page.locator("form[action='/setup/storage/cloud']").first.locator("button").click()
    walk.again_if_asked()
    expect(page.locator("#test .is-done")).to_have_count(3, timeout=PATIENCE_MS)
    page.locator("#test a.primary").click()


def admit_a_machine(walk: Walk, folder: Path) -> None:
    """It knocks and appears by itself; it is admitted, answers the call back, and its first image appears by itself."""
    page = walk.page
    film = folder / "film.dcm"
    data_set = next(iter(synthetic.dental_set(1, scale=0.1)))
    out = BytesIO()
    data_set.save_as(out, enforce_file_format=True)
    film.write_bytes(out.getvalue())
    assert storescu(walk.box.dicom_port, calling="PANO1", files=[film]).returncode != 0, "it isn't known yet"
    caller = page.locator("#machines .is-new", has_text="PANO1")
    expect(caller).to_be_visible(timeout=PATIENCE_MS)
    with storescp(ae_title="PANO1") as machine:
        caller.locator("[name=name]").fill("Panoramic, room 2")
        caller.locator("[name=port]").fill(str(machine.port))
        walk.look("devices-door")
        caller.locator("button").click()
        lights = page.locator("#machines .machine", has_text="Panoramic, room 2")
        expect(lights.locator(".checks .is-good")).to_have_count(1, timeout=PATIENCE_MS)

        def sent() -> bool:
            return storescu(walk.box.dicom_port, calling="PANO1", files=[film]).returncode == 0

        wait_for(sent, "the machine may send")
        expect(lights.locator(".checks .is-good")).to_have_count(3, timeout=PATIENCE_MS)
        expect(lights.locator("img")).to_be_visible(timeout=PATIENCE_MS)
    page.reload()
    walk.look("devices-image")
    walk.onward()


@pytest.mark.parametrize("walk", ["en-CA", "fr-CA"], indirect=True)
def test_the_whole_way_from_a_blank_box_to_the_report(walk: Walk, cloud: Cloud, tmp_path: Path) -> None:
    page = walk.page
    walk.goto("/")
    walk.at("welcome")
    expect(page.locator("#checks li")).to_have_count(6)
    walk.onward()
    walk.at("language")
    walk.onward()
    walk.at("claim")
    claim(walk)
    walk.at("clinic")
    name_clinic(walk)
    walk.at("network")
    walk.fill(host_name="clinicbox")
    walk.press("/setup/network")
    expect(page.locator("main")).to_contain_text("SHA-256")
    walk.check("network-made")
    walk.look("network-made")
    page.goto(f"{walk.address}/trust")
    expect(page.locator("h1")).to_be_visible()
    walk.check("trust")
    walk.look("trust")
    walk.goto("/setup/network")
    walk.onward()
    walk.at("account")
    enrol(walk)
    walk.at("recovery")
    print_and_type_back(walk, tmp_path)
    walk.at("storage")
    copy_to_the_cloud(walk, cloud)
    walk.at("devices")
    admit_a_machine(walk, tmp_path)
    walk.at("users")
    walk.fill(name="Sophie Roy", login="sophie")
    walk.press("/setup/users")
    walk.again_if_asked()
    expect(page.locator(".link-once")).to_contain_text("/welcome#")
    walk.look("users-link")
    walk.onward()
    walk.at("trial")
    walk.press("/setup/trial/run")
    expect(page.locator("#trial .is-done")).to_have_count(5, timeout=120_000)
    picture = page.locator(".trial-picture img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
    walk.check("trial-done")
    walk.look("trial-done")
    walk.press("/setup/trial/seen")
    walk.at("report")
    token = page.locator("main [name=csrf]").first.input_value()
    report = page.request.post(f"{walk.address}/setup/report/paper", form={"csrf": token})
    assert report.headers["content-type"] == "application/pdf"
    read = subprocess.run(
        ["pdftotext", "-layout", "-", "-"], input=report.body(), capture_output=True, check=True
    ).stdout.decode()
    assert ("byte for byte" if walk.language == "en" else "octet par octet") in " ".join(read.split())
    for word in (
        "Clinique dentaire Tremblay",
        "Luc Gagné",
        "PANO1",
        "ca-central-1",
        "Sophie Roy",
        "SQLCipher",
        "marie",
    ):
        assert word in read, word
    assert "tests" not in read, "no secret is in it"
    if SCREENSHOTS:
        drawn = [
            "pdftoppm",
            "-r",
            "60",
            "-png",
            "-",
            str(Path(SCREENSHOTS) / f"report-paper-{walk.language}"),
        ]
        subprocess.run(drawn, input=report.body(), check=True)
    walk.press("/setup/report")
    expect(page.locator(".setup")).to_have_count(0)
    walk.goto("/setup")
    expect(page.locator(".badge.good")).to_have_count(12)
    walk.check("overview")
    walk.look("overview")
    assert {str(each) for each in Step} <= walk.checked
    assert walk.complaints == [] or all("422" in each for each in walk.complaints), walk.complaints


def test_killed_in_the_middle_of_the_test_study_it_goes_on_after_a_restart(
    walk: Walk, tmp_path: Path
) -> None:
    """The console is killed while it waits for the copies; started again, the page says so and goes on from there."""
    page = walk.page
    walk.goto("/claim")
    claim(walk)
    name_clinic(walk)
    walk.at("network")
    for step in ("network", "account"):
        walk.press(f"/setup/{step}/later")
    key = walk.box.say("key", "show-recovery").strip()
    walk.fill(key=key)
    walk.press("/setup/recovery")
    walk.at("storage")
    for step in ("storage", "devices", "users"):
        walk.press(f"/setup/{step}/later")
    walk.at("trial")
    folder = tmp_path / "hand-over"
    folder.mkdir()
    walk.box.say("destination", "add", "folder", "hand-over", "--path", folder)
    walk.box.say("rule", "add", "--to", "hand-over")
    folder.rename(tmp_path / "unplugged")  # the delivery cannot succeed: the test stands at "replicate"
    walk.press("/setup/trial/run")
    expect(page.locator("#trial li").nth(3)).to_have_class(
        re.compile("is-(running|failed)"), timeout=PATIENCE_MS
    )
    (console,) = [each for each in walk.box.family() if "web" in each.cmdline()]
    os.kill(console.pid, signal.SIGKILL)
    wait_for(
        lambda: walk.box.get("/health/live")[0] == 200 and not console.is_running(), "the console is back"
    )
    walk.goto("/setup")
    walk.at("trial")
    expect(page.locator("#trial .is-done")).to_have_count(3)
    (tmp_path / "unplugged").rename(folder)
    page.locator("#trial .buttons .primary").click()
    expect(page.locator("#trial .is-done")).to_have_count(4, timeout=PATIENCE_MS)
    expect(page.locator("#trial .is-left-out")).to_have_count(1)
    assert len(list(folder.glob("study-*/*.dcm"))) == 1, "it was not sent a second time"
