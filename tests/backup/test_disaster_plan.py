"""The disaster recovery plan: true to the box, without a secret, and never too hopeful about how long it takes."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import certificates, duties, settings
from appliance.audit.vouching import vouched
from appliance.backup import disaster_plan, homecoming, sampling
from appliance.backup.disaster_plan import Place, Plan
from appliance.backup.drill import CERTIFICATES, LAST, Certificate
from appliance.box import Box, open_box
from appliance.catalog import Transaction, destinations, devices, tier_tags
from appliance.catalog import settings as kept
from appliance.config import Config
from appliance.lifecycle.storage_class import DEEP, Tier
from appliance.model import DestinationSettings, Device, ae_title
from appliance.store.keys import Guard
from appliance.system import System
from appliance.web.console import web_ui
from appliance.web.language import Languages, Words
from appliance.web.plan_words import SCENARIOS, WordedPlan, span, worded
from tests.backup.conftest import IMAGES
from tests.boxes import box_in, recorded
from tests.replication.cloud import settings as cloud_settings
from tests.replication.depot import owe_everything_to
from tests.replication.parcels import take_in

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)
LANGUAGES = Languages(web_ui() / "languages")
SECRET = "tres-secret-0451"
KEY_ID = "AKIAEXAMPLE77"


def drilled(**changes: object) -> Certificate:
    values: dict[str, object] = {
        "at_utc": (NOW - timedelta(days=2)).isoformat(),
        "archive": "cloud",
        "snapshot": "20261123T200000Z-00000000",
        "made_utc": (NOW - timedelta(days=3)).isoformat(),
        "studies": 400,
        "instances": 2000,
        "sampled": 20,
        "sampled_bytes": 20_000_000,
        "catalog_seconds": 40.0,
        "sample_seconds": 10.0,
        "findings": (),
    }
    return Certificate(**(values | changes))  # type: ignore[arg-type]


def clinic(data: Path) -> Box:
    """A box with a bucket, a disk, a machine and what people have said of it."""
    box = open_box(Config(data=data))
    bucket = {"bucket": "clinic-images", "region": "ca-central-1", "access_key_id": KEY_ID}
    with box.catalog.transaction() as tx:
        destinations.add(tx, DestinationSettings("cloud", "s3", "ciphertext", bucket, secret=SECRET))
        destinations.add(tx, DestinationSettings("usb", "vault", "ciphertext", {"path": "/media/backup"}))
        devices.add_device(tx, Device(ae_title("PANO1"), "192.168.1.40", "Panoramic", 104), NOW)
        said = {
            "plan.place": "Second floor, closet",
            "plan.key_holder": "Dr Roy, the safe at home",
            "plan.phones": "Support 1 800 555-0100\nInternet 1 800 555-0199",
            "clinic.name": "Clinique du Lac",
        }
        settings.change(tx, box.audit_key, said, actor="tests", now=NOW, root=box.root)
        for name, age in (("cloud", 1), ("usb", 3)):
            done = {"outcome": "succeeded", "succeeded_utc": (NOW - timedelta(days=age)).isoformat()}
            kept.put(tx, f"backup.last.{name}", done, NOW)
    return box


def tell_drills(tx: Transaction, box: Box, *drills: Certificate) -> None:
    """Put drills on record as `drill` does, the newest first; a failed attempt without a certificate is none of them."""
    kept.put(tx, CERTIFICATES, [vouched(box.audit_key, CERTIFICATES, asdict(each)) for each in drills], NOW)
    for name in {each.archive for each in drills}:
        of_it = [each for each in drills if each.archive == name]
        told = {
            "at_utc": of_it[0].at_utc,
            "outcome": "succeeded" if of_it[0].passed else "failed",
            "succeeded_utc": next((each.at_utc for each in of_it if each.passed), None),
            "reason": f"{name}: {'; '.join(of_it[0].findings)}" if of_it[0].findings else "",
        }
        kept.put(tx, f"{LAST}.{name}", vouched(box.audit_key, f"{LAST}.{name}", told), NOW)


def plan_of(data: Path, *drills: Certificate, paused: str = "", usb_age_days: float = 3) -> Plan:
    """The plan of `clinic`, with these drills, the newest first."""
    box = clinic(data)
    try:
        with box.catalog.transaction() as tx:
            tell_drills(tx, box, *drills)
            if paused:
                destinations.pause(tx, paused)
            done = {
                "outcome": "succeeded",
                "succeeded_utc": (NOW - timedelta(days=usb_age_days)).isoformat(),
            }
            kept.put(tx, "backup.last.usb", done, NOW)
        return replace(disaster_plan.gather(box, "marie", NOW), system=System.OPEN)
    finally:
        box.close()


def of_archive(plan: Plan, name: str) -> Place:
    return next(each for each in plan.archives if each.name == name)


def lines_of(plan: Plan, title: str, words: Words) -> dict[str, str]:
    """What a part of the plan says, by label."""
    section = next(each for each in worded(plan, words).sections if each.title == words(title))
    return {each.label: each.text for each in section.lines}


def text_of(paper: WordedPlan) -> str:
    lines = [f"{line.label}: {line.text}" for section in paper.sections for line in section.lines]
    return "\n".join(
        [paper.title, paper.clinic, paper.verdict, *[each.title for each in paper.sections], *lines]
    )


def test_it_names_the_machines_the_copies_the_people_and_the_exact_command_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "own_addresses", lambda: ("192.168.1.20", "2606:4700::20"))
    box = clinic(tmp_path)
    try:
        plan = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    assert plan.addresses == ("192.168.1.20",), "the console does not answer at the public one"
    assert [each.name for each in plan.archives] == ["cloud", "usb"], "that with the newest backup first"
    for code in ("en", "fr", "es", "zh"):
        said = text_of(worded(plan, LANGUAGES.words(code)))
        for needed in (
            "PANO1 · 192.168.1.40:104",
            "Dr Roy, the safe at home",
            "Support 1 800 555-0100 · Internet 1 800 555-0199",
            "Second floor, closet",
            "appliance restore s3 --bucket clinic-images --region ca-central-1 --access-key-id K",
            "/media/backup",
            "appliance key rotate",
            LANGUAGES.words(code)("welcome.restore"),
            LANGUAGES.words(code)("guard.freeze"),
        ):
            assert needed in said, (code, needed)
        assert SECRET not in said
        assert KEY_ID not in said
        assert "{" not in said
        assert LANGUAGES.words(code)("reach.near", names="usb") in said, "a disk can be erased from the box"
        assert LANGUAGES.words(code)("reach.title") in said
        assert all(LANGUAGES.words(code)(f"plan.{each}") in said for each in SCENARIOS)


BUCKET = drilled(catalog_seconds=1_500.0, sample_seconds=200.0)
USB = drilled(
    archive="usb",
    at_utc=(NOW - timedelta(days=2) + timedelta(hours=10)).isoformat(),
    catalog_seconds=2.0,
    sample_seconds=0.5,
)
"""Ten hours after the bucket's, from a disk on the table."""


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_each_archive_has_the_times_that_its_own_last_drill_measured(tmp_path: Path, code: str) -> None:
    missed = drilled(
        at_utc=(NOW - timedelta(days=1)).isoformat(), findings=("the backup lacks the key of an image",)
    )
    plan = plan_of(tmp_path, missed, USB, BUCKET)
    words = LANGUAGES.words(code)
    cloud, usb = of_archive(plan, "cloud"), of_archive(plan, "usb")
    assert cloud.estimate is not None and cloud.estimate.index_seconds == 1_500.0
    assert usb.estimate is not None and usb.estimate.index_seconds == 2.0
    assert cloud.tried is not None and cloud.tried.found == missed, (
        "what it says of the last one is of the last one"
    )
    said = lines_of(plan, "plan.last_drill", words)
    assert said[words("plan.index_back", archive="cloud")] == span(1_500.0, words)
    assert said[words("plan.index_back", archive="usb")] == span(2.0, words)
    assert span(0.5, words) in said[words("plan.drill", archive="usb")]
    why = words.cause("the backup lacks the key of an image")
    assert said[words("plan.drill", archive="cloud")].endswith(f"{why}."), "what was wrong, as health says it"
    assert words("plan.index_back", archive="cloud") != words("plan.index_back", archive="usb")


def test_a_drill_of_the_place_where_an_archive_was_before_says_nothing_of_where_it_is(tmp_path: Path) -> None:
    box = clinic(tmp_path)
    try:
        with box.catalog.transaction() as tx:
            tell_drills(tx, box, USB, BUCKET)
            there = destinations.destination(tx, "usb")
            assert there is not None
            destinations.begin_anew(tx, there)
        plan = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    usb = of_archive(plan, "usb")
    assert usb.tried is None and usb.estimate is None
    assert of_archive(plan, "cloud").estimate is not None


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_a_drill_that_never_came_to_an_end_is_said_beside_what_the_one_before_measured(
    tmp_path: Path, code: str
) -> None:
    box = clinic(tmp_path)
    at = NOW - timedelta(hours=3)
    told = {"at_utc": at.isoformat(), "outcome": "failed", "succeeded_utc": BUCKET.at_utc, "reason": "away"}
    try:
        with box.catalog.transaction() as tx:
            tell_drills(tx, box, BUCKET)
            kept.put(tx, f"{LAST}.cloud", vouched(box.audit_key, f"{LAST}.cloud", told), NOW)
        plan = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    words = LANGUAGES.words(code)
    said = lines_of(plan, "plan.last_drill", words)
    broken = words("plan.drill_broken", at=words.moment(at))
    assert said[words("plan.drill", archive="cloud")] == words("plan.drill_why", drill=broken, why="Away.")
    assert said[words("plan.index_back", archive="cloud")] == span(1_500.0, words)
    assert said[words("plan.drill", archive="usb")] == words("plan.no_drill")
    assert worded(replace(plan, recovery_confirmed=True), words).verdict_tone == "wait"


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
@pytest.mark.parametrize(("retrieval", "hours"), [("standard", 12), ("bulk", 48)])
def test_what_rests_in_deep_archive_is_waited_for_as_long_as_the_clinics_way_of_fetching_takes(
    tmp_path: Path, code: str, retrieval: str, hours: int
) -> None:
    box = clinic(tmp_path)
    some = replace(BUCKET, resting=7)
    try:
        with box.catalog.transaction() as tx:
            tell_drills(tx, box, USB, some)
            settings.change(
                tx, box.audit_key, {"tiers.retrieval": retrieval}, actor="tests", now=NOW, root=box.root
            )
        plan = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    words = LANGUAGES.words(code)
    cloud = of_archive(plan, "cloud")
    assert cloud.wait_hours == hours and cloud.estimate is not None
    assert cloud.estimate.all_home_seconds is not None
    assert cloud.estimate.all_home_seconds >= 1_500 + hours * 3_600
    said = lines_of(plan, "plan.last_drill", words)
    waited = words("plan.span.hours", n=hours)
    assert waited in said[words("plan.all_home", archive="cloud")]
    assert words("studies.images", n=7) in said[words("plan.drill", archive="cloud")]
    assert waited not in said[words("plan.all_home", archive="usb")]


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_where_every_image_rests_the_wait_is_said_though_the_drill_brought_none_back(
    tmp_path: Path, code: str
) -> None:
    every = replace(BUCKET, sampled=0, sampled_bytes=0, resting=20, findings=(sampling.NONE_OPENED,))
    plan = plan_of(tmp_path, every)
    words = LANGUAGES.words(code)
    cloud = of_archive(plan, "cloud")
    assert cloud.estimate is not None and cloud.estimate.index_seconds == 1_500.0
    assert cloud.estimate.all_home_seconds is None
    said = lines_of(plan, "plan.last_drill", words)[words("plan.all_home", archive="cloud")]
    assert words("plan.span.hours", n=cloud.wait_hours) in said


@pytest.mark.parametrize("drills", [(USB, BUCKET), ()])
def test_what_the_box_has_let_sink_is_waited_for_though_no_sample_has_met_it(
    tmp_path: Path, drills: tuple[Certificate, ...]
) -> None:
    with box_in(tmp_path) as box:
        owe_everything_to(box, cloud_settings("http://127.0.0.1:1", "clinic"))
        take_in(box, IMAGES)
        with box.catalog.transaction() as tx:
            tx.exec_driver_sql("UPDATE deliveries SET state = 'CONFIRMED'")
            (place,) = destinations.destinations(tx)
            tell_drills(tx, box, *(replace(each, archive=place.name) for each in drills[-1:]))
        before = disaster_plan.gather(box, "marie", NOW)
        with box.catalog.transaction() as tx:
            tier_tags.begin(tx, place.id, recorded(box)[0].study_id, Tier.DEEP, NOW)
        plan = disaster_plan.gather(box, "marie", NOW)
    assert before.places[0].wait_hours == 0
    assert plan.places[0].wait_hours == DEEP.wait_hours
    words = LANGUAGES.words("en")
    said = lines_of(plan, "plan.last_drill", words)[words("plan.all_home", archive=place.name)]
    assert words("plan.span.hours", n=DEEP.wait_hours) in said


COMMAND = re.compile(r"\bappliance [a-z]|\b(?:systemctl|journalctl|sudo)\b|--[a-z]")


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_on_the_image_every_step_has_its_way_in_the_console_and_no_command(tmp_path: Path, code: str) -> None:
    box = clinic(tmp_path)
    try:
        plan = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    words = LANGUAGES.words(code)
    typed = text_of(worded(replace(plan, system=System.OPEN), words))
    said = text_of(worded(replace(plan, system=System.IMAGE), words))
    assert COMMAND.search(typed)
    assert not COMMAND.search(said), said
    for button in ("root_key.keys", "setup.key.new", "setup.key.sheet", "root_key.act", "welcome.restore"):
        assert words(button) in said, button
    for button in ("guard.freeze", "guard.release", "destinations.add_title", "nav.deliveries"):
        assert words(button) in said, button
    assert all(line in typed for line in said.splitlines()), (
        "elsewhere the command stands beside the same words"
    )


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_who_tells_of_a_stolen_box_is_told_whether_its_disk_can_be_read(tmp_path: Path, code: str) -> None:
    words = LANGUAGES.words(code)
    plan = plan_of(tmp_path)
    assert plan.seal == "file", "the box knows it when the plan is printed"
    said: dict[Guard | None, str] = {
        seal: lines_of(replace(plan, seal=seal), "plan.stolen", words)["1"] for seal in get_args(Guard)
    }
    call, readable = words("plan.stolen.call"), words("plan.stolen.readable")
    assert said == {
        "tpm2": call,
        "disk": call,
        "host": f"{call} {readable}",
        "file": f"{call} {readable}",
    }
    said[None] = lines_of(replace(plan, seal=None), "plan.stolen", words)["1"]
    assert said.pop(None) == call, "without a seal it opens by the paper alone"
    assert words("notice.machine-seal") not in "".join(said.values()), "nobody has to remember anything"


def plan_with(data: Path, place: DestinationSettings) -> str:
    """The plan, in English, of a new box with one destination."""
    box = open_box(Config(data=data))
    try:
        with box.catalog.transaction() as tx:
            destinations.add(tx, place)
            done = {"outcome": "succeeded", "succeeded_utc": NOW.isoformat()}
            kept.put(tx, f"backup.last.{place.name}", done, NOW)
        return text_of(worded(disaster_plan.gather(box, "marie", NOW), LANGUAGES.words("en")))
    finally:
        box.close()


def test_a_file_server_is_named_with_the_key_by_which_it_is_known(tmp_path: Path) -> None:
    nas: dict[str, str | int | bool] = {
        "address": "192.168.1.20",
        "port": 22,
        "user": "clinic box",
        "folder": "backup $(box); x",
        "login": "password",
        "host_key": "ssh-ed25519 SHA256:n52bw",
    }
    said = plan_with(tmp_path, DestinationSettings("nas", "sftp", "ciphertext", nas, secret=SECRET))
    assert (
        "appliance restore sftp --address 192.168.1.20 --port 22 --user 'clinic box' "
        "--folder 'backup $(box); x' --fingerprint SHA256:n52bw"
    ) in said
    assert "nas: File server, sealed · 192.168.1.20 · backup $(box); x · clinic box" in said
    assert "fingerprint of its key SHA256:n52bw" in said
    assert "ssh-ed25519" not in said, "whoever stands there has no use for how the key was made"
    assert SECRET not in said


def test_a_share_is_named_with_its_server_and_its_user(tmp_path: Path) -> None:
    share: dict[str, str | int | bool] = {
        "address": "192.168.1.20",
        "port": 445,
        "share": "backup",
        "folder": "clinic 2",
        "user": "clinicbox",
        "domain": "CLINIC",
        "server_name": "nas",
    }
    said = plan_with(tmp_path, DestinationSettings("share", "smb", "ciphertext", share, secret=SECRET))
    assert (
        "appliance restore smb --address 192.168.1.20 --port 445 --share backup --folder 'clinic 2' "
        "--user clinicbox --domain CLINIC"
    ) in said
    assert SECRET not in said


def test_the_verdict_says_what_is_wrong_before_it_says_that_all_is_well(tmp_path: Path) -> None:
    words = LANGUAGES.words("en")
    box = open_box(Config(data=tmp_path / "new"))
    try:
        bare = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    assert worded(bare, words).verdict_tone == "bad"
    assert "not said in the settings yet" in text_of(worded(bare, words))
    box = clinic(tmp_path / "old")
    try:
        plan = disaster_plan.gather(box, "marie", NOW)
        assert "recovery key" in worded(plan, words).verdict, "nobody has shown to have it"
    finally:
        box.close()
    printed = replace(plan, recovery_confirmed=True)
    assert "no restore drill has passed" in worded(printed, words).verdict
    both = replace(plan_of(tmp_path / "both", USB, BUCKET), recovery_confirmed=True)
    assert worded(both, words).verdict_tone == "good"
    assert "from cloud" in worded(both, words).verdict, "that which no fire takes with the box"
    only_near = worded(replace(plan_of(tmp_path / "near", USB), recovery_confirmed=True), words)
    assert only_near.verdict_tone == "wait", "a drill of the disk says nothing of the bucket"
    assert (
        "from usb" in only_near.verdict and words("plan.verdict.others", names="cloud") in only_near.verdict
    )
    assert words("plan.verdict.near") in only_near.verdict
    failed = replace(BUCKET, findings=("an image is missing",))
    none = worded(replace(plan_of(tmp_path / "failed", failed), recovery_confirmed=True), words)
    assert "no restore drill has passed" in none.verdict and none.verdict_tone == "wait"
    late = replace(both, at_utc=NOW + timedelta(days=30))
    assert "old" in worded(late, words).verdict


@given(
    st.integers(1, 200),
    st.integers(1, 1 << 34),
    st.floats(0.001, 1e5),
    st.floats(0, 1e5),
    st.integers(0, 1 << 24),
    st.integers(0, 1 << 50),
)
def test_an_estimate_is_never_less_than_the_sample_would_take_for_all(
    sampled: int, sampled_bytes: int, seconds: float, catalog: float, instances: int, size_bytes: int
) -> None:
    passed = drilled(
        sampled=sampled, sampled_bytes=sampled_bytes, sample_seconds=seconds, catalog_seconds=catalog
    )
    found = disaster_plan.estimate(passed, instances, size_bytes)
    assert found.index_seconds == catalog
    assert found.all_home_seconds is not None
    assert found.all_home_seconds >= catalog
    assert found.all_home_seconds >= seconds * (instances / sampled) * 0.999
    assert found.all_home_seconds >= seconds * (size_bytes / sampled_bytes) * 0.999


@given(st.integers(0, 1 << 24))
def test_all_images_are_promised_no_sooner_than_the_box_brings_them_home(instances: int) -> None:
    """However fast a disk is: some at a time, and then what else there is to do."""
    (recall,) = (each for each in duties.duties(cast("Box", None)) if each.name == "recall")
    most = inspect.signature(homecoming.bringing_home).parameters["most"].default
    found = disaster_plan.estimate(drilled(sample_seconds=0.001), instances, 0)
    assert found.all_home_seconds is not None
    assert found.all_home_seconds >= instances / most * recall.every_seconds


def test_without_a_sample_nothing_is_promised_about_the_images() -> None:
    assert disaster_plan.estimate(drilled(sampled=0, sampled_bytes=0), 10, 10).all_home_seconds is None


@given(st.floats(0, 1e9))
def test_a_span_is_said_in_a_unit_of_everyday_and_never_too_short(seconds: float) -> None:
    said = span(seconds, LANGUAGES.words("en"))
    number, unit = said.split()
    each = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[unit.rstrip("s")]
    assert int(number.replace(",", "")) * each >= seconds
    assert int(number.replace(",", "")) >= 1
