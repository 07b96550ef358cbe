"""The runbooks on the box's own image, where nobody can log in: every page, button and label that they name is there, in English and
in French, and those for the worst days are walked in the console as they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, health, settings
from appliance.catalog import people
from appliance.identity import Role
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from appliance.web import create_app
from appliance.web.console import web_ui
from appliance.web.language import Languages
from appliance.wizard import progress
from appliance.wizard.steps import DEFERRABLE
from tests.backup.conftest import Clinic
from tests.image.shut import QUESTIONS
from tests.web.conftest import LOGIN, browser_of, csrf_of, kept_clinic, sign_in
from tests.web.test_root_key import CLINIC

ROOT = Path(__file__).parents[2]
LANGUAGES = Languages(web_ui() / "languages")
FOR_THE_IMAGE = (
    "install",
    "replace-disk",
    "replace-box",
    "lost-key",
    "asks",
    "starts-again",
    "kept-choice",
    "full-disk",
    "offline",
    "ransomware",
    "end-of-life",
)
COULD_NOT = "The appliance could not start. It tries again in 30 seconds."
ENROL = "Enroll Secure Boot keys: auto"
"""As systemd-boot 257 calls it (`Enroll Secure Boot keys: %ls`), after the folder on the ESP that mkosi makes."""

AT_THE_MACHINE = {
    *("ERASE", "Done.", "BOXBACKUP", "image-build/build installer", COULD_NOT, ENROL, "Kernel panic"),
    *("d", "Default boot entry cleared.", "Default boot entry selected."),
    *("Clear", "Reset"),  # in English in most firmwares
    *QUESTIONS,
}
"""What is typed at the stick or pressed in the loader's menu (systemd-boot 257 answers so), is a disk's name, stands on the screen, or is done by whoever looks after the box."""


def steps(code: str) -> Mapping[str, str]:
    """Each runbook's way on the image, as HTML."""
    text = (web_ui() / "help" / code / "runbooks.html").read_text("utf-8")
    found = {}
    for part in re.split(r'(?=<h2 id=")', text)[1:]:
        name = re.findall(r'<h2 id="([^"]+)"', part)[0]
        ways = part.split("<h3>")
        if len(ways) == 3:
            found[name] = ways[1].partition("</h3>")[2]
    return found


def labels(html: str) -> list[str]:
    return [unescape(each) for each in re.findall(r"<em>(.*?)</em>", html)]


def links(html: str) -> list[str]:
    return re.findall(r'href="([^"]+)"', html)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A box that is set up, whose images are on a disk too."""
    with kept_clinic(tmp_path_factory.mktemp("runbooks"), 3) as made:
        now = datetime.now(UTC)
        with made.box.catalog.transaction() as tx:
            settings.change(tx, made.box.audit_key, CLINIC, actor="tests", now=now)
            for step in DEFERRABLE:
                progress.leave_for_later(tx, step, now)
            progress.finish(tx, LOGIN, now)
        folder = health.keys_folder(made.box)
        if not keys.recovery_confirmed(folder):
            keys.check_recovery(folder, made.box.root, str(keys.show_recovery(folder, made.box.root)))
        yield made


@pytest.fixture(scope="module")
def app(clinic: Clinic) -> Iterator[Flask]:
    application = create_app(clinic.box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


def shown(browser: FlaskClient, path: str, code: str = "en") -> str:
    answer = browser.get(path, headers={"Accept-Language": code})
    assert answer.status_code == 200, path
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))).split())


def press(browser: FlaskClient, path: str, **typed: str) -> int:
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(path, data={"csrf": token, **typed}).status_code


# --- what is named is there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["en", "fr"])
def test_each_has_its_way_on_the_image_first_and_names_no_command_there(code: str) -> None:
    found = steps(code)
    assert tuple(found) == FOR_THE_IMAGE
    for name, html in found.items():
        assert "<ol>" in html
        assert set(re.findall(r"<code>(.*?)</code>", html)) <= AT_THE_MACHINE, name


@pytest.mark.parametrize(("code", "space_bar"), [("en", "space bar"), ("fr", "barre d’espace")])
def test_the_loaders_menu_is_asked_for_since_none_appears_by_itself(code: str, space_bar: str) -> None:
    assert "timeout 0" in (ROOT / "image-build/scripts/finish").read_text()
    found = steps(code)
    assert all(space_bar in found[each] for each in ("install", "starts-again", "kept-choice"))
    assert found["install"].index("Setup Mode") < found["install"].index(f"<code>{ENROL}</code>"), (
        "the line is there in Setup Mode only"
    )


@pytest.mark.parametrize(("code", "key"), [("en", "press Enter"), ("fr", "appuyez sur Entrée")])
def test_the_stick_is_taken_out_once_somebody_has_pressed_the_key_that_it_asks_for(
    code: str, key: str
) -> None:
    stick = (ROOT / "image-build/mkosi.extra/usr/lib/appliance/install.py").read_text()
    assert "Done. Press Enter: the machine goes off." in stick
    written = steps(code)["install"].split("<code>ERASE</code>")[1].split("</li>")[0]
    assert "<code>Done.</code>" in written
    assert key in written


@pytest.mark.parametrize("code", ["en", "fr"])
def test_a_changed_machine_asks_for_both_keys_each_in_its_place(code: str) -> None:
    """The disk's at the screen, and the box's in the console, whose one page this then is (`appliance/web/locked.py`)."""
    asks = steps(code)["asks"]
    assert labels(asks)[0] == LANGUAGES.words(code)("locked.title")


@pytest.mark.parametrize(("code", "warns"), [("en", "browser warns"), ("fr", "navigateur avertit")])
def test_who_reaches_the_box_at_another_address_is_told_of_the_warning(code: str, warns: str) -> None:
    (at_the_router,) = [each for each in steps(code)["ransomware"].split("<li>") if warns in each]
    assert "/guard" not in at_the_router, "before anything is done there"


@pytest.mark.parametrize("code", ["en", "fr"])
def test_a_box_that_starts_again_and_again_is_told_by_what_its_screen_says(code: str) -> None:
    assert f"<code>{COULD_NOT}</code>" in steps(code)["starts-again"]
    units = [*(ROOT / "image-build").glob("**/emergency.service.d/appliance.conf")]
    assert len(units) == 2, "of the initrd, and of the system"
    assert all(f'echo "{COULD_NOT}"' in each.read_text() for each in units)


@pytest.mark.parametrize(
    ("code", "waits", "left"),
    [
        ("en", "Wait an hour", "left again within an hour"),
        ("fr", "Attendez une heure", "quittée d’elle-même en moins d’une heure"),
    ],
)
def test_nobody_is_told_to_act_while_a_version_still_has_its_tries(code: str, waits: str, left: str) -> None:
    """The longest is that of one that can't open the disk: each of its three lasts until `disk-unopened` ends it, and the starts come on top."""
    timer = (ROOT / "image-build/mkosi.extra/usr/lib/systemd/system/disk-unopened.timer").read_text()
    (minutes,) = map(int, re.findall(r"^OnActiveSec=(\d+)min$", timer, re.MULTILINE))
    assert 3 * minutes < 60
    assert waits in steps(code)["starts-again"]
    page = (ROOT / f"web-ui/help/{code}/runbooks.html").read_text()
    assert left in page.split('<h2 id="update-failed">')[1].split("<h2")[0]


@pytest.mark.parametrize("code", ["en", "fr"])
def test_every_label_is_one_of_the_console(code: str) -> None:
    sentences = LANGUAGES.words(code).sentences
    said = {each for each in sentences.values() if isinstance(each, str)}
    for name, html in steps(code).items():
        assert not set(labels(html)) - said, name


def test_both_languages_name_the_same_pages_and_buttons_in_the_same_order() -> None:
    english, french = steps("en"), steps("fr")
    for name in FOR_THE_IMAGE:
        assert links(english[name]) == links(french[name]), name
        pairs = zip(labels(english[name]), labels(french[name]), strict=True)
        for ours, theirs in pairs:
            keys_of_both = [
                {key for key, said in LANGUAGES.words(code).sentences.items() if said == label}
                for code, label in (("en", ours), ("fr", theirs))
            ]
            assert keys_of_both[0] & keys_of_both[1], (name, ours, theirs)


@pytest.mark.parametrize("code", ["en", "fr"])
def test_every_link_leads_to_a_page_that_bears_its_name(owner: FlaskClient, code: str) -> None:
    for html in steps(code).values():
        for path, name in re.findall(r'<a href="([^"]+)"><em>(.*?)</em></a>', html):
            assert unescape(name) in shown(owner, path, code), path


@pytest.mark.parametrize(
    ("path", "buttons"),
    [
        ("/backups", ("backups.make", "backups.try", "backups.verify", "root_key.keys", "tiers.title")),
        ("/setup/recovery", ("setup.key.new", "root_key.act", "pin.open")),
        ("/guard", ("guard.freeze",)),
        ("/audit", ("audit.export_jsonl",)),
        ("/me", ("me.password_act",)),
        ("/tiers", ("tiers.evict", "tiers.plan_look")),
        ("/destinations", ("destinations.add_title",)),
        ("/destinations/1", ("rules.add",)),
    ],
)
@pytest.mark.parametrize("code", ["en", "fr"])
def test_the_buttons_that_a_runbook_says_are_on_their_pages(
    owner: FlaskClient, code: str, path: str, buttons: tuple[str, ...]
) -> None:
    page = shown(owner, path, code)
    named = {label for html in steps(code).values() for label in labels(html)}
    for button in buttons:
        label = LANGUAGES.words(code)(button)
        assert label in named, button
        assert label in page, button


@pytest.mark.parametrize("code", ["en", "fr"])
def test_the_one_for_an_attack_says_how_a_backup_from_before_is_chosen(code: str) -> None:
    """The page itself is walked in tests/web/test_restore.py."""
    named = labels(steps(code)["ransomware"])
    order = ("welcome.restore", "restore.look", "restore.written_over", "restore.look", "restore.act")
    asked = [LANGUAGES.words(code)(each) for each in order]
    assert [each for each in named if each in asked] == asked


# --- walked --------------------------------------------------------------------------------------------------------------


def test_a_lost_key_is_replaced_in_the_console_and_then_the_root_key(
    owner: FlaskClient, clinic: Clinic, eventually: Callable[..., object]
) -> None:
    box = clinic.box
    folder, place = health.keys_folder(box), int(clinic.place.id)
    before = keys.recovery_slot(folder)
    assert press(owner, "/setup/recovery/new") == 303
    assert "Open the sheet" in shown(owner, "/setup/recovery")
    assert press(owner, "/setup/recovery/sheet") == 200
    paper = str(keys.show_recovery(folder, box.root))
    assert "Check the key" in shown(owner, "/setup/recovery")
    assert press(owner, "/setup/recovery", key=paper) == 303
    assert press(owner, f"/backups/{place}/make") == 303
    eventually(lambda: "The backup is being made" not in shown(owner, "/backups"), within_seconds=120)
    generation = box.root.generation
    assert press(owner, "/setup/recovery/root", paper=paper) == 303
    eventually(
        lambda: f"root key number {generation + 1}" in shown(owner, "/setup/recovery"), within_seconds=120
    )
    assert press(owner, f"/backups/{place}/make") == 303
    eventually(lambda: "The backup is being made" not in shown(owner, "/backups"), within_seconds=120)
    clinic.deliver()
    left = Path(str(clinic.place.options["path"])) / "keys" / "root.recovery"
    assert keys.open_with_recovery(left.read_bytes(), RecoveryKey.parse(paper)).generation == generation + 1
    assert before != left.read_bytes()


def test_after_an_attack_everything_is_held_read_and_renewed_in_the_console(
    owner: FlaskClient, app: Flask, clinic: Clinic, eventually: Callable[..., object]
) -> None:
    box = clinic.box
    assert press(owner, "/guard/freeze", reason="strange messages") == 303
    assert "Release" in shown(owner, "/guard")
    token = csrf_of(owner.get("/audit").get_data(as_text=True))
    kept = owner.post("/audit/export/jsonl", data={"csrf": token})
    assert b"guard:freeze" in kept.get_data()
    assert press(owner, "/backups/verify") == 303
    eventually(lambda: "Everything is being read" not in shown(owner, "/backups"), within_seconds=120)
    thief = browser_of(app, Role.TECHNICIAN, "leo")
    assert thief.get("/me").status_code == 200
    with box.catalog.reading() as conn:
        person = people.person(conn, "leo")
    assert person is not None
    page = shown(owner, f"/users/{person.id}")
    assert "Sign out everywhere" in page
    assert "Link for a new password" in page
    assert press(owner, f"/users/{person.id}/end-sessions") == 303
    assert thief.get("/me").status_code == 303
    assert press(owner, f"/users/{person.id}/link") == 303
    assert press(owner, "/guard/release", reason="the cause is gone") == 303
    with box.catalog.reading() as conn:
        rows = {row["action"] for row in audit.export(conn) if row["actor"] == LOGIN}
        assert audit.verify(conn, box.audit_key, None) == []
    assert {"guard:freeze", "guard:release", "store:verify", "user:end-sessions", "user:link"} <= rows
