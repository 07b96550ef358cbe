"""The disaster recovery plan: true to the box, without a secret, and never too hopeful about how long it takes."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import certificates, settings
from appliance.audit.vouching import vouched
from appliance.backup import disaster_plan
from appliance.backup.drill import CERTIFICATES, Certificate
from appliance.box import Box, open_box
from appliance.catalog import destinations, devices
from appliance.catalog import settings as kept
from appliance.config import Config
from appliance.model import DestinationSettings, Device, ae_title
from appliance.system import System
from appliance.web.console import web_ui
from appliance.web.language import Languages
from appliance.web.plan_words import SCENARIOS, WordedPlan, span, worded

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


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_the_times_are_those_that_the_last_drill_of_this_box_measured(tmp_path: Path, code: str) -> None:
    box = clinic(tmp_path)
    try:
        missed = drilled(at_utc=(NOW - timedelta(days=1)).isoformat(), findings=("an image is missing",))
        found = drilled(catalog_seconds=2_460.0, sample_seconds=17.0)
        with box.catalog.transaction() as tx:
            papers = [vouched(box.audit_key, CERTIFICATES, asdict(each)) for each in (missed, found)]
            kept.put(tx, CERTIFICATES, papers, NOW)
        plan = disaster_plan.gather(box, "marie", NOW)
    finally:
        box.close()
    words = LANGUAGES.words(code)
    assert plan.estimate is not None and plan.estimate.in_service_seconds == 2_460.0
    assert plan.last_drill == missed, "what it says of the last one is of the last one"
    (line,) = [
        each
        for section in worded(plan, words).sections
        for each in section.lines
        if each.label == words("plan.in_service")
    ]
    assert line.text == span(2_460.0, words)
    said = text_of(worded(replace(plan, last_drill=found), words))
    assert span(17.0, words) in said and span(2_460.0, words) in said


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


def plan_with(data: Path, place: DestinationSettings) -> str:
    """The plan, in English, of a new box with one destination."""
    box = open_box(Config(data=data))
    try:
        with box.catalog.transaction() as tx:
            destinations.add(tx, place)
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
    tried = replace(printed, last_drill=drilled())
    assert worded(tried, words).verdict_tone == "good"
    failed = replace(printed, last_drill=drilled(findings=("an image is missing",)))
    assert worded(failed, words).verdict_tone == "wait"
    late = replace(tried, at_utc=NOW + timedelta(days=30))
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
    assert found.in_service_seconds == catalog
    assert found.all_home_seconds is not None
    assert found.all_home_seconds >= catalog
    assert found.all_home_seconds >= seconds * (instances / sampled) * 0.999
    assert found.all_home_seconds >= seconds * (size_bytes / sampled_bytes) * 0.999


def test_without_a_sample_nothing_is_promised_about_the_images() -> None:
    assert disaster_plan.estimate(drilled(sampled=0, sampled_bytes=0), 10, 10).all_home_seconds is None


@given(st.floats(0, 1e9))
def test_a_span_is_said_in_a_unit_of_everyday_and_never_too_short(seconds: float) -> None:
    said = span(seconds, LANGUAGES.words("en"))
    number, unit = said.split()
    each = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[unit.rstrip("s")]
    assert int(number.replace(",", "")) * each >= seconds
    assert int(number.replace(",", "")) >= 1
