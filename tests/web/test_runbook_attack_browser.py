"""*Somebody has encrypted or stolen*, on the box's own image, walked in Chromium to its end in both of its branches: what the thief has
opens nothing afterwards.

The bucket is behind a line that knows the keys which its owner has not taken away: whoever signs with another is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from appliance import duties, health, identity, local_time, settings
from appliance.box import Box
from appliance.catalog import destinations, rules
from appliance.identity import Role
from appliance.model import DestinationSettings, Rule
from appliance.replication.destinations import s3_client
from appliance.store import keys
from appliance.wizard import progress
from appliance.wizard.steps import DEFERRABLE
from tests.backup.conftest import IMAGES, as_sent, clinic_in, contents
from tests.backup.test_past import SEALED, write_over
from tests.boxes import delivery_states
from tests.replication import cloud as clouds
from tests.replication.cloud import Cloud, Fault, Line
from tests.system.running import wait_for
from tests.web.conftest import LOGIN, PASSWORD, add_owner
from tests.web.second_factor import add_person
from tests.web.test_browser import PATIENCE_MS, Clinic, browser, claim, clinic
from tests.web.test_restore_browser import stage, type_code, type_place
from tests.web.test_root_key import CLINIC
from tests.web.test_runbooks_browser import delivering, receive
from tests.web.test_setup_browser import Walk, blank, walk
from tests.web.test_tokens import token

__all__ = ["blank", "browser", "clinic", "walk"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

STOLEN, RENEWED = "stolen-key", "renewed-key"
NEW_PASSWORD = "sept corneilles sous un parapluie"
COLLEAGUE, ABSENT, THEIRS = "leo", "ana", "deux phares derrière la brume"
PATIENT_SECONDS = 120


# --- a bucket and its keys -------------------------------------------------------------------------------------------


@dataclass
class Bucket:
    """A bucket that keeps versions, the line to it, and which access keys its owner lets in."""

    cloud: Cloud
    line: Line
    name: str
    good: set[str] = field(default_factory=lambda: {STOLEN})

    def place(self) -> DestinationSettings:
        """The bucket as the box has it, with the key that is stolen."""
        return replace(
            clouds.settings(self.line.url, self.name, access_key_id=STOLEN), secret=f"secret of {STOLEN}"
        )

    def lets_in(self, key: str) -> bool:
        client = s3_client.connect(clouds.REGION, self.line.url, (key, f"secret of {key}"))
        try:
            client.list_objects_v2(Bucket=self.name)
        except client.exceptions.ClientError as refusal:
            assert refusal.response["Error"]["Code"] == "AccessDenied", refusal
            return False
        return True


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with clouds.cloud() as cloud, clouds.line(cloud.port) as line:
        made = Bucket(cloud, line, cloud.new_bucket(versioned=True))
        line.fault = lambda request: None if request.key_id in made.good else Fault.FORBIDDEN
        yield made


# --- a person at the clean computer ----------------------------------------------------------------------------------


@dataclass
class Desk:
    """Whoever looks after the box, signed in at the clean computer, with the runbook open beside."""

    browser: Browser
    page: Page
    address: str
    login: str

    @property
    def main(self) -> Locator:
        return self.page.locator("main")

    def follow(self, path: str, name: str) -> None:
        """The page that the runbook's link leads to; it bears the name that the runbook gives it."""
        self.page.goto(self.address + path)
        expect(self.page.locator("h1")).to_have_text(re.compile(re.escape(name)))

    def press(self, name: str, within: Locator | None = None) -> None:
        """The button of that name, or what asks before it; and the password, where the box asks whether it is still them."""
        among = within or self.main
        asks = among.locator("details.confirm", has=self.page.locator("summary", has_text=name))
        if asks.count():
            asks.first.locator("summary").click()
            among = asks.first
        among.get_by_role("button", name=name).first.click()
        if self.page.locator("[name=confirm_password]").count():
            self.page.locator("[name=confirm_password]").fill(PASSWORD)
            self.page.locator("main button.primary").click()

    def visitor(self) -> BrowserContext:
        """Another browser, which knows nothing of this one."""
        return self.browser.new_context(locale="en-CA")

    def is_let_in(self, login: str, password: str) -> bool:
        """Whether somebody who comes now with this password is."""
        context = self.visitor()
        signed_in(context, self.address, login, password)
        found = is_signed_in(context, self.address)
        context.close()
        return found

    def status_with(self, bearer: str) -> int:
        """What a program gets that shows this token."""
        context = self.visitor()
        answer = context.request.get(
            f"{self.address}/api/v1/deliveries", headers={"Authorization": f"Bearer {bearer}"}
        )
        context.close()
        return answer.status


def signed_in(context: BrowserContext, address: str, login: str, password: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}/sign-in")
    page.locator("[name=login]").fill(login)
    page.locator("[name=password]").fill(password)
    page.locator("main button.primary").click()
    page.locator(".bar-person, [role=alert]").first.wait_for(state="attached")
    return page


def is_signed_in(context: BrowserContext, address: str) -> bool:
    return context.request.get(f"{address}/me", max_redirects=0).status == 200


@contextmanager
def thief(browser: Browser, address: str, login: str, password: str) -> Iterator[BrowserContext]:
    """Somebody else, who signs in with what was stolen."""
    context = browser.new_context(locale="en-CA")
    signed_in(context, address, login, password)
    assert is_signed_in(context, address)
    yield context
    context.close()


# --- what the runbook says for a box that is whole, from *Users* to *Replace the root key* -----------------------------


def renew_people(desk: Desk) -> None:
    """*Users*: at each other person *Sign out everywhere* and *Link for a new password*, which they use; *Deactivate* whoever isn't there;
    one's own under *My account*."""
    page = desk.page
    desk.follow("/users", "Users")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name=ABSENT.title()).click()
    desk.press("Deactivate")
    expect(page.locator("body")).to_contain_text("can no longer sign in")
    desk.follow("/users", "Users")
    page.get_by_role("link", name=COLLEAGUE.title()).click()
    desk.press("Sign out everywhere")
    expect(page.locator("body")).to_contain_text("is signed out everywhere")
    give_a_link(desk)
    desk.follow("/me", "My account")
    page.locator("form[action='/me/password'] [name=password]").fill(NEW_PASSWORD)
    page.locator("form[action='/me/password'] [name=again]").fill(NEW_PASSWORD)
    desk.press("Change the password")
    expect(page.locator("body")).to_contain_text("your other sessions have ended")


def give_a_link(desk: Desk) -> None:
    """*Link for a new password*, on a person's page: whom it was handed to opens it at once, and chooses."""
    desk.press("Link for a new password")
    link = desk.page.locator("[data-copy-from]").input_value()
    context = desk.visitor()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(link)
    page.locator("[name=password]").fill(THEIRS)
    page.locator("[name=again]").fill(THEIRS)
    page.locator("main button.primary").click()
    expect(page.locator("main a.primary")).to_have_attribute("href", "/sign-in")
    context.close()
    desk.page.reload()
    expect(desk.main).not_to_contain_text("not used yet")


def renew_tokens(desk: Desk) -> None:
    """*Tokens*: *Remove* each, of everybody."""
    desk.follow("/me/tokens", "Tokens")
    asking = desk.page.locator("tbody details.confirm")
    assert asking.count() == 2
    while left := asking.count():
        desk.press("Remove", desk.page.locator("tbody tr", has=desk.page.locator("details.confirm")).first)
        expect(asking).to_have_count(left - 1)


def renew_secret(desk: Desk, key: str) -> None:
    """*Destinations*: the bucket's new key and its secret."""
    page = desk.page
    desk.follow("/destinations", "Destinations")
    page.locator("#cards .card", has_text="cloud").locator("h2 a").click()
    page.locator("[name=access_key_id]").fill(key)
    page.locator("[name=secret]").fill(f"secret of {key}")
    desk.press("Save", page.locator("section[aria-labelledby=where-title]"))
    expect(page.locator("#form-error")).to_have_count(0)


def replace_root(desk: Desk, paper: str, number: int) -> None:
    """*Backups*, *Recovery key, root key*, *Replace the root key*, with the paper."""
    desk.follow("/backups", "Backups")
    desk.main.get_by_role("link", name="Recovery key, root key").click()
    desk.page.locator("#root-key [name=paper]").fill(paper)
    desk.press("Replace the root key", desk.page.locator("#root-key"))
    expect(desk.page.locator("#root-key")).to_contain_text(
        f"root key number {number}", timeout=4 * PATIENCE_MS
    )


def finish_setting_up(box: Box) -> str:
    """The rest of the first day is done; the paper."""
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        chosen = {**CLINIC, "access.second_factor_roles": []}
        settings.change(tx, box.audit_key, chosen, actor="tests", now=now)
        for step in DEFERRABLE:
            progress.leave_for_later(tx, step, now)
        progress.finish(tx, LOGIN, now)
    folder = health.keys_folder(box)
    paper = str(keys.show_recovery(folder, box.root))
    keys.check_recovery(folder, box.root, paper)
    return paper


def owes_nothing(box: Box, count: int) -> bool:
    with box.catalog.reading() as conn:
        states = delivery_states(conn)
    return states.total() >= count and set(states) <= {"CONFIRMED"}


# --- all is whole ----------------------------------------------------------------------------------------------------


def test_all_is_whole_and_what_the_thief_has_opens_nothing_any_more(
    clinic: Clinic, bucket: Bucket, eventually: Callable[..., object]
) -> None:
    box = clinic.box
    code = identity.claim_code(box)
    assert code is not None
    page = clinic.page()
    claim(clinic, page, code)
    paper = finish_setting_up(box)
    for each in (COLLEAGUE, ABSENT):
        add_person(box, each, Role.TECHNICIAN)
    with box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(destinations.add(tx, bucket.place()), "cloud", "ciphertext"))
    bearers = [token(box, login, "deliveries:view") for login in ("marie", COLLEAGUE)]
    desk = Desk(clinic.browser, page, clinic.address, "marie")
    with (
        delivering(box),
        thief(clinic.browser, clinic.address, COLLEAGUE, PASSWORD) as first,
        thief(clinic.browser, clinic.address, "marie", PASSWORD) as second,
    ):
        receive(box, 3)
        eventually(lambda: owes_nothing(box, 3), within_seconds=PATIENT_SECONDS)
        assert [desk.status_with(each) for each in bearers] == [200, 200]

        bucket.line.down = True  # the cable is pulled
        desk.follow("/guard", "Ransomware guard")
        page.locator("[name=reason]").fill("strange file names on the computer at the desk")
        desk.press("Hold everything")
        expect(desk.main).to_contain_text("Nothing is overwritten or removed any more")
        duties.check_audit(box, datetime.now(UTC))  # as in every hour
        desk.follow("/audit", "Audit")
        expect(page.locator(".chain strong")).to_have_text(
            re.compile(r"^The log is whole: verified up to row \d+ on ")
        )
        with page.expect_download() as kept:
            desk.press("Export JSON")
        lines = Path(kept.value.path()).read_text("utf-8").splitlines()
        assert "guard:freeze" in {json.loads(each)["action"] for each in lines}
        desk.follow("/backups", "Backups")
        everything = page.locator("#everything")
        desk.press("Read everything now", everything)
        expect(everything.locator(".note.good")).to_contain_text(
            "3 images were read, and all are whole", timeout=4 * PATIENCE_MS
        )

        renew_people(desk)
        renew_tokens(desk)
        bucket.good = {RENEWED}  # whoever owns the bucket has made another, and taken this one away
        renew_secret(desk, RENEWED)
        replace_root(desk, paper, 2)
        desk.follow("/guard", "Ransomware guard")
        page.locator("[name=reason]").fill("the computer at the desk is gone")
        desk.press("Release")
        expect(desk.main).to_contain_text("Everything goes its way")
        bucket.line.down = False

        assert [is_signed_in(each, clinic.address) for each in (first, second)] == [False, False]
        old = [desk.is_let_in(each, PASSWORD) for each in (COLLEAGUE, ABSENT, "marie")]
        assert old == [False, False, False]
        desk.follow("/users", "Users")
        page.get_by_role("link", name=ABSENT.title()).click()
        desk.press("Reactivate")
        assert desk.is_let_in(ABSENT, PASSWORD), "so a link comes with it"
        give_a_link(desk)
        assert not desk.is_let_in(ABSENT, PASSWORD)
        assert [desk.is_let_in(each, THEIRS) for each in (COLLEAGUE, ABSENT)] == [True, True]
        assert desk.is_let_in("marie", NEW_PASSWORD)
        assert [desk.status_with(each) for each in bearers] == [401, 401]
        assert (bucket.lets_in(STOLEN), bucket.lets_in(RENEWED)) == (False, True)
        receive(box, 5, seed=2)
        eventually(lambda: owes_nothing(box, 8), within_seconds=PATIENT_SECONDS)
    assert len(bucket.cloud.keys(bucket.name, "objects/")) == 8


# --- not whole -------------------------------------------------------------------------------------------------------


def test_the_copies_are_written_over_and_a_new_box_has_every_image_that_the_bucket_had(
    walk: Walk, bucket: Bucket, browser: Browser, tmp_path: Path
) -> None:
    page, now = walk.page, datetime.now(UTC)
    with clinic_in(tmp_path / "lost", bucket.place()) as lost:
        add_owner(lost.box)
        paper = finish_setting_up(lost.box)
        for each in (COLLEAGUE, ABSENT):
            add_person(lost.box, each, Role.TECHNICIAN)
        bearers = [token(lost.box, login, "deliveries:view") for login in (LOGIN, COLLEAGUE)]
        lost.receive(*IMAGES[:3])
        lost.deliver()
        lost.back_up(now - timedelta(hours=4))
        lost.receive(*IMAGES[3:6])
        lost.deliver()
        newest = lost.back_up(now - timedelta(hours=3))
        lost.receive(*IMAGES[6:8])
        lost.deliver()
    clouds.age(bucket.name, timedelta(hours=2))
    write_over(bucket.cloud, lost.place, *SEALED)
    assert bucket.lets_in(STOLEN)
    bucket.good = {RENEWED}

    walk.goto("/")
    page.get_by_role("link", name="Restore from backup instead").click()
    stage(walk, "code")
    type_code(walk)
    stage(walk, "source")
    page.locator("[value=bucket]").check()
    type_place(walk, bucket.name, bucket.line.url)
    walk.fill(access_key_id=RENEWED, secret=f"secret of {RENEWED}", key=paper)
    page.get_by_role("button", name="See what is there").click()
    damaged = page.locator("#found")
    expect(damaged).to_contain_text("damaged", timeout=PATIENCE_MS)
    stage(walk, "source")
    page.locator("summary", has_text="Somebody has written over or removed the copies").click()
    page.locator("[name=as_of]").fill(f"{local_time.here(now - timedelta(hours=1)):%Y-%m-%dT%H:%M}")
    walk.fill(key=paper)  # and the secret may stay empty
    page.get_by_role("button", name="See what is there").click()
    stage(walk, "found")
    expect(page.locator("#found tbody tr")).to_have_count(2)
    page.locator(f"#found [name=backup][value='{newest.name}']").check()
    expect(page.locator("#found tr", has=page.locator(":checked"))).to_contain_text("6 images")
    page.get_by_role("button", name="Restore this box").click()
    expect(page).to_have_url(re.compile(r"/sign-in$"), timeout=4 * PATIENCE_MS)

    with (
        thief(browser, walk.address, COLLEAGUE, PASSWORD) as first,
        thief(browser, walk.address, LOGIN, PASSWORD) as second,
    ):
        page.locator("[name=login]").fill(LOGIN)
        page.locator("[name=password]").fill(PASSWORD)
        page.locator("main button.primary").click()
        page.locator(".side").wait_for()
        desk = Desk(browser, page, walk.address, LOGIN)
        assert [desk.status_with(each) for each in bearers] == [200, 200], "as the runbook says"
        renew_people(desk)
        renew_tokens(desk)
        renew_secret(desk, RENEWED)
        replace_root(desk, paper, 2)
        desk.follow("/backups", "Backups")
        card = page.locator("section.card", has=page.locator("h2", has_text="cloud"))
        desk.press("Back up now", card)
        expect(card.locator(".under-way")).to_have_count(0, timeout=4 * PATIENCE_MS)
        expect(card.locator(".facts .badge").first).to_have_class(re.compile("good"), timeout=PATIENCE_MS)
        assert [is_signed_in(each, walk.address) for each in (first, second)] == [False, False]
        old = [desk.is_let_in(each, PASSWORD) for each in (COLLEAGUE, ABSENT, LOGIN)]
        assert old == [False, False, False]
        assert [desk.status_with(each) for each in bearers] == [401, 401]
    desk.follow("/studies", "Studies")
    expect(page.locator("#rows .study").first).to_be_visible()
    walk.box.wait_for_instances(8)
    with walk.box.opened() as box:
        wait_for(
            lambda: contents_or_nothing(box) == as_sent(*IMAGES[:8]),
            "every image that the bucket had is here",
            seconds=PATIENT_SECONDS,
        )


def contents_or_nothing(box: Box) -> dict[str, bytes]:
    """Every image by its UID; nothing while one of them is still on its way."""
    try:
        return contents(box)
    except OSError:
        return {}
