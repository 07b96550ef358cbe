"""The fleet's playbooks with living boxes on loopback: who is in the inventory, and rings that halt."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jinja2
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance import settings
from appliance.fleet import consent, heartbeat, pulse, ring, wanted
from appliance.fleet.wanted import LONGEST, Wanted
from appliance.updates import night
from appliance.updates.night import Doing, Window
from tests.boxes import box_in
from tests.fleet.outposts import vendor
from tests.provisioning.fleets import PROVISIONING, Fleet, Member
from tests.provisioning.living_box import beat
from tests.provisioning.test_playbooks import tool

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

NEXT, MENDED = "0.2.0", "0.2.1"
RING = yaml.safe_load((PROVISIONING / "tasks/fleet-ring.yml").read_text())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with vendor(folder / "board") as there:
        made = Fleet(folder, there)
        for number in range(3):
            made.enrol(f"box-{number}")
        for version in (NEXT, MENDED):
            made.make_version(version)
        made.register(*((each.name, each.key) for each in made.members))
        yield made


@pytest.fixture(autouse=True)
def nothing_wanted(fleet: Fleet) -> None:
    for folder in ("wanted", "boxes"):
        for each in (fleet.vendor.folder / folder).glob("*"):
            each.unlink()


def chosen(member: Member) -> int:
    with box_in(member.data) as box, box.catalog.reading() as conn:
        return int(settings.get(conn, "health.disk_days"))


def test_a_fleet_is_configured_ring_by_ring_and_a_second_run_changes_nothing(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    with fleet.alive():
        eventually(lambda: all(fleet.is_well(each.name) for each in fleet.members), within_seconds=120)
        told = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 45})
        assert told.returncode == 0, told.stdout + told.stderr
        assert told.stdout.count("PLAY [Choose limits") == 3, "three rings of one box each"
        again = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 45})
        assert re.findall(r"changed=(\d+)", again.stdout) == ["0"] * 4, again.stdout
        healthy = fleet.play("fleet-health.yml", fleet_report=str(fleet.folder / "report.json"))
        assert healthy.returncode == 0, healthy.stdout
    assert [chosen(each) for each in fleet.members] == [45] * 3
    report = json.loads((fleet.folder / "report.json").read_text())
    assert [each["box"] for each in report] == [each.name for each in fleet.members]


def test_an_update_goes_on_ring_by_ring_and_halts_where_a_box_is_not_well_afterwards(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    first, ill, last = fleet.members
    with fleet.alive(1):
        eventually(lambda: all(fleet.is_well(each.name) for each in fleet.members), within_seconds=120)
        told = fleet.play("fleet-update.yml", fleet_software=NEXT, fleet_retries=20)
        assert told.returncode != 0
        assert re.search(r"clinic 1 is not ready: \S.*, and the time of its ring is over", told.stdout)
        assert (fleet.heard(first.name)["software"], fleet.heard(first.name)["state"]) == (NEXT, "ready")
        assert fleet.heard(ill.name)["state"] == "not-ready"
        health = fleet.play("fleet-health.yml", fleet_report=str(fleet.folder / "report.json"))
        assert health.returncode != 0
        assert re.search(r"clinic 1: \S", health.stdout), "whoever is needed is named, and by what"
        assert "clinic 0:" not in health.stdout
        assert not fleet.wanted_of(last.name), "the last ring heard nothing of it"

        held = fleet.play("fleet-update.yml", fleet_software=MENDED)
        assert held.returncode != 0
        assert "clinic 1 is not ready" in held.stdout
        assert fleet.heard(ill.name)["software"] == NEXT, (
            "without a word nobody changes a box that isn't well"
        )
        mended = fleet.play("fleet-update.yml", fleet_software=MENDED, fleet_mend=True)
        assert mended.returncode == 0, mended.stdout
    assert [fleet.heard(each.name)["software"] for each in (first, ill, last)] == [MENDED] * 3


def test_a_ring_halts_at_once_and_says_why_where_a_box_went_back_by_itself_and_one_that_is_beyond_has_it(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    """It is well, and goes on with the version before: as a canary whose new version did not prove itself."""
    with tempfile.TemporaryDirectory() as place, vendor(Path(place) / "board") as there:
        others = Fleet(Path(place), there)
        first, leaves, last = (others.enrol(f"box-{number}") for number in range(3))
        for version in (NEXT, MENDED):
            others.make_version(version)
        others.register(*((each.name, each.key) for each in others.members))
        with others.alive(manners={0: MENDED, 1: "leaves"}):
            eventually(lambda: all(others.is_well(each.name) for each in others.members), within_seconds=200)
            values = {"fleet_software": NEXT, "fleet_retries": 1000}
            with others.playing("fleet-update.yml", **values) as play:
                eventually(lambda: play.is_over, within_seconds=300)
                assert play.process.returncode not in (0, None), play.said
            runs = others.heard(leaves.name)["software"]
            assert others.heard(first.name)["software"] == MENDED, "brought by a stick, as it were"
            assert (
                f"clinic 1 tried version {NEXT}, which did not prove itself there, and has gone back to {runs}"
                in play.said
            )
            assert not others.wanted_of(last.name), "the last ring heard nothing of it"
            assert others.is_well(leaves.name)
            is_well, said, _ = health(others)
            assert not is_well
            assert re.search(r"clinic 1: .*update-failed", said), "whoever waits for another version is named"


SLOWEST = [
    night.NIGHT,
    Window.of("00:00-00:30", night.DAYS),
    Window.of("00:00-00:30", ["sunday"]),
    Window.of("04:30-06:00", ["sunday"]),
    Window.of("05:30-06:00", ["sunday"]),
    Window.of("23:00-01:00", ["saturday"]),
    Window.of("06:00-05:50", ["sunday"]),
]
"""The hours as delivered, and others of a clinic's choosing, short and long, of all nights and of one, before the box looks and after."""
LOOKED, FETCHED = timedelta(hours=4, minutes=1), timedelta(hours=6, minutes=1)
"""Of a day: when the last box has looked for a version (update.timer), and has it at the latest (update.service)."""
TOLD = timedelta(hours=1)
"""How old a heartbeat is at most, of a box that is heard."""


def longest(window: Window) -> timedelta:
    """How long after it was named a version starts by itself on a box that is sent images whenever its timer looks."""
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in range(1, 8)]
    return max(started(window, day + timedelta(days=1) + FETCHED) - (day + LOOKED) for day in days)


def started(window: Window, waits: datetime) -> datetime:
    """When a version starts that waits from `waits` on."""
    put_off, now = 0, waits
    while True:
        if window.is_open(now):
            if night.hold(Doing(receives=True), put_off, window) is None:
                return now
            put_off += 1
        now += timedelta(minutes=night.EVERY_MINUTES)


def waited(**values: object) -> timedelta:
    """How long a ring waits for its boxes."""
    (waits,) = [each["appliance_ring"] for each in RING if "appliance_ring" in each]
    retries, delay = (
        int(jinja2.Environment(autoescape=False).from_string(waits[word]).render(values))
        for word in ("retries", "delay_seconds")
    )
    return timedelta(seconds=retries * delay)


def test_a_version_is_put_off_for_a_fortnight_and_for_as_many_tries_where_it_may_start_once_a_week() -> None:
    assert timedelta(days=14) < longest(night.NIGHT) < timedelta(days=17)
    assert timedelta(days=21) < max(map(longest, SLOWEST)) < timedelta(days=23)


def test_a_ring_waits_for_a_box_that_is_in_use_whenever_a_version_may_start() -> None:
    assert waited(fleet_software=NEXT) > max(map(longest, SLOWEST)) + TOLD
    assert waited(fleet_software="") == timedelta(days=1), "settings come with the next heartbeat"
    assert waited(fleet_software=NEXT, fleet_retries=2, fleet_delay_seconds=3) == timedelta(seconds=6)
    assert sum("retries" in each or "until" in each for each in RING) == 0, "nothing else of a ring waits"


def test_what_is_wanted_holds_for_as_long_as_a_ring_waits() -> None:
    """Also where it lay there before: a box that is heard again on the last day may still take it. How many are in a ring is no matter:
    `tests/fleet/test_ring.py`."""
    assert waited(fleet_software=NEXT) < ring.RENEWED < ring.HOLDS <= LONGEST


def lives(member: Member) -> None:
    """A box is well, says so, and takes what is wanted of it."""
    now = datetime.now(UTC)
    with box_in(member.data) as box:
        beat(box, now, now)
        pulse.send(box, now)


def test_a_ring_waits_for_a_box_that_is_not_heard_at_the_moment_in_which_it_begins(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    first, late, _ = fleet.members
    for each in fleet.members:
        lives(each)
    chosen_now = {"health.disk_days": 40}
    with fleet.playing("fleet-configure.yml", fleet_settings=chosen_now, fleet_retries=400) as play:
        eventually(lambda: play.is_over or fleet.wanted_of(first.name), within_seconds=300)
        stale = sent(late, datetime.now(UTC) - timedelta(hours=2))
        (fleet.vendor.folder / "boxes" / f"{late.name}.json").write_bytes(stale)

        def is_waited_for() -> bool:
            lives(first)
            return play.is_over or "clinic 1 is not heard (stale)" in play.said

        eventually(is_waited_for, within_seconds=300)
        assert not play.is_over, play.said
        assert not fleet.wanted_of(late.name)
        with fleet.alive():
            eventually(lambda: play.is_over, within_seconds=300)
        assert play.process.returncode == 0, play.said
    assert [chosen(each) for each in fleet.members] == [40] * 3


def lay(fleet: Fleet, member: Member, **values: object) -> None:
    """What is wanted of a box, as it was signed before."""
    private = serialization.load_ssh_private_key(fleet.authority.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    until = datetime.now(UTC) + timedelta(days=30)
    named = {
        "number": fleet.heard(member.name)["wanted"]["number"] + 1,
        "software": "",
        "settings": {},
    } | values
    order = Wanted(box=member.name, until_utc=until, **named)
    (fleet.vendor.folder / "wanted" / f"{member.name}.json").write_bytes(wanted.signed(order, private))


def test_a_box_that_went_ahead_of_the_version_that_was_named_takes_its_limits(fleet: Fleet) -> None:
    """As one that was brought a newer version on a stick: it refuses an older one, and the limits that come with it."""
    for each in fleet.members:
        lives(each)
    first, *_ = fleet.members
    lay(fleet, first, software="0.0.1")
    lives(first)
    lives(first)
    assert fleet.heard(first.name)["wanted"]["came"] == "refused"
    with fleet.alive():
        told = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 35}, fleet_retries=20)
    assert told.returncode == 0, told.stdout
    assert [chosen(each) for each in fleet.members] == [35] * 3
    key = serialization.load_ssh_public_key(fleet.public.encode())
    assert isinstance(key, Ed25519PublicKey)
    named = [wanted.opened(fleet.wanted_of(each.name), key).software for each in fleet.members]
    assert named == [fleet.heard(first.name)["software"], "", ""]


def test_a_version_that_a_box_has_left_behind_is_not_named_to_it(fleet: Fleet) -> None:
    for each in fleet.members:
        lives(each)
    first, *_ = fleet.members
    told = fleet.play("fleet-update.yml", fleet_software="0.0.1")
    assert told.returncode != 0
    runs = fleet.heard(first.name)["software"]
    assert f"clinic 0 runs {runs} already, and never goes back to 0.0.1" in told.stdout
    assert not any(fleet.wanted_of(each.name) for each in fleet.members)


def test_rings_halt_with_the_reason_as_soon_as_a_box_refuses(
    fleet: Fleet, eventually: Callable[..., object]
) -> None:
    for each in fleet.members:
        lives(each)
    with fleet.alive():
        with fleet.playing(
            "fleet-configure.yml", fleet_settings={"health.unheard_of": 1}, fleet_retries=1000
        ) as play:
            eventually(lambda: play.is_over, within_seconds=200)
            assert play.process.returncode not in (0, None), play.said
        assert "clinic 0 refused what is wanted: its log says why" in play.said
        assert not fleet.wanted_of(fleet.members[1].name)
        told = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 36}, fleet_retries=40)
        assert told.returncode == 0, "a refusal of what came before halts nobody: " + told.stdout
    assert [chosen(each) for each in fleet.members] == [36] * 3


def test_of_a_hundred_boxes_one_is_told_first_then_five_then_twenty_five_then_all(tmp_path: Path) -> None:
    """By Ansible itself, which makes the rings: the plays' own words, on hosts that only say that they were reached."""
    books = ("fleet-configure.yml", "fleet-update.yml")
    (_, play, after), (_, other, other_after) = (
        yaml.safe_load((PROVISIONING / book).read_text()) for book in books
    )
    assert after == other_after, "who was left out is named by both"
    for word in ("serial", "order", "any_errors_fatal"):
        assert play[word] == other[word], word
    assert play["any_errors_fatal"] is True
    assert play["order"] == "inventory"
    reached = {"name": "Reached", "ansible.builtin.debug": {"msg": "reached"}}
    alone = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "order": play["order"],
        "serial": play["serial"],
        "tasks": [reached],
    }
    (tmp_path / "rings.yml").write_text(yaml.safe_dump([alone]))
    boxes = ",".join(f"box-{number:03}" for number in range(100))
    told = subprocess.run(
        [tool("ansible-playbook"), "-f", "50", "-i", f"{boxes},", str(tmp_path / "rings.yml")],
        env=os.environ | {"ANSIBLE_HOME": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("PLAY RECAP")[0]
    rings = [re.findall(r"^ok: \[(box-\d+)\]", each, re.MULTILINE) for each in told.split("PLAY [")[1:]]
    assert [sum(map(len, rings[: place + 1])) for place in range(len(rings))] == [1, 5, 25, 100]
    assert rings[0] == ["box-000"], "the register's first one is the canary"


def sent(member: Member, at: datetime) -> bytes:
    with box_in(member.data) as box:
        told = pulse.document(box, at)
        with box.catalog.transaction() as tx:
            return heartbeat.signed(told, consent.key_of(tx, box, at))


@pytest.mark.parametrize("heard_places", [(1, 2), ()])
def test_nothing_is_said_to_any_box_while_the_first_of_the_register_is_not_heard(
    fleet: Fleet, heard_places: tuple[int, ...]
) -> None:
    for place in heard_places:
        member = fleet.members[place]
        path = fleet.vendor.folder / "boxes" / f"{member.name}.json"
        path.write_bytes(sent(member, datetime.now(UTC)))
    told = fleet.play("fleet-configure.yml", fleet_settings={"health.disk_days": 50}, fleet_retries=1)
    assert told.returncode != 0, told.stdout
    assert f"{fleet.members[0].name} is the first of the register" in told.stdout
    assert not any(fleet.wanted_of(each.name) for each in fleet.members)


@pytest.fixture
def missed(fleet: Fleet) -> Iterator[str]:
    """A fourth box of the register, of which nothing is heard; its clinic is number 3."""
    known = [(each.name, each.key) for each in fleet.members]
    fleet.register(*known, ("f" * 16, "f" * 64))
    yield "f" * 16
    fleet.register(*known)


def health(fleet: Fleet, **values: object) -> tuple[bool, str, list[tuple[str, str]]]:
    """Whether the fleet does well, what was said, and of each box of the report how it does."""
    path = fleet.folder / "report.json"
    path.unlink(missing_ok=True)
    told = fleet.play("fleet-health.yml", fleet_report=str(path), **values)
    return (
        told.returncode == 0,
        told.stdout,
        [(each["box"], each["state"]) for each in json.loads(path.read_text())],
    )


def test_a_fleet_of_which_nobody_is_heard_does_not_do_well(fleet: Fleet) -> None:
    is_well, said, report = health(fleet)
    assert not is_well
    assert "not heard: clinic 0 (silent), clinic 1 (silent), clinic 2 (silent)" in said
    assert report == [(each.name, "silent") for each in fleet.members]


def test_the_report_names_who_is_not_heard_and_everybody_else_is_looked_at(fleet: Fleet, missed: str) -> None:
    well, stale, ill = fleet.members
    lives(well)
    boxes = fleet.vendor.folder / "boxes"
    (boxes / f"{stale.name}.json").write_bytes(sent(stale, datetime.now(UTC) - timedelta(hours=2)))
    (boxes / f"{ill.name}.json").write_bytes(sent(ill, datetime.now(UTC)))
    (boxes / "{{ 6 * 7 }}.json").write_text("of a stranger")
    is_well, said, report = health(fleet)
    assert not is_well
    assert "not heard: clinic 1 (stale), clinic 3 (silent)" in said
    assert re.search(r"clinic 2: \S", said), "who is heard and needs somebody is named too"
    assert report == [
        (well.name, "ready"),
        (ill.name, "not-ready"),
        (stale.name, "stale"),
        (missed, "silent"),
        ("{{ 6 * 7 }}", "stranger"),
    ]


def test_a_silent_box_of_which_somebody_knows_is_left_and_a_stranger_is_nobodys(
    fleet: Fleet, missed: str
) -> None:
    for each in fleet.members:
        lives(each)
    assert not health(fleet)[0]
    (fleet.vendor.folder / "boxes/0123456789abcdef.json").write_text("of a stranger")
    is_well, said, report = health(fleet, fleet_leave_silent=True)
    assert is_well, said
    assert report[3:] == [(missed, "silent"), ("0123456789abcdef", "stranger")], "it is told all the same"


def test_rings_that_left_out_a_silent_box_do_not_end_well_unless_somebody_knows_of_it(
    fleet: Fleet, missed: str, eventually: Callable[..., object]
) -> None:
    values = {"fleet_settings": {"health.disk_days": 60}, "fleet_retries": 400}
    with fleet.alive():
        eventually(lambda: all(fleet.is_well(each.name) for each in fleet.members), within_seconds=300)
        told = fleet.play("fleet-configure.yml", **values)
        assert told.returncode != 0
        assert "not heard: clinic 3 (silent)" in told.stdout
        left = fleet.play("fleet-configure.yml", fleet_leave_silent=True, **values)
        assert left.returncode == 0, left.stdout
        assert re.findall(r"changed=(\d+)", left.stdout) == ["0"] * 4, "all others were served before"
    assert [chosen(each) for each in fleet.members] == [60] * 3
    assert not fleet.wanted_of(missed)


def test_only_signed_fresh_heartbeats_of_registered_boxes_are_in_the_inventory(fleet: Fleet) -> None:
    boxes = fleet.vendor.folder / "boxes"
    stale, forged, good = fleet.members

    now = datetime.now(UTC)
    (boxes / f"{stale.name}.json").write_bytes(sent(stale, now - timedelta(hours=2)))
    (boxes / f"{forged.name}.json").write_bytes(sent(good, now))
    (boxes / f"{good.name}.json").write_bytes(sent(good, now))
    (boxes / "0123456789abcdef.json").write_bytes(sent(good, now))
    hosts, said = fleet.inventory()
    assert hosts == [good.name]
    assert f"{stale.name} is not in the fleet now: stale" in said
    assert f"{forged.name} is not in the fleet now: stranger" in said
    assert "0123456789abcdef is not in the fleet now: stranger" in said
    altered = (boxes / f"{good.name}.json").read_text().replace("ready", "reedy")
    (boxes / f"{good.name}.json").write_text(altered)
    assert fleet.inventory()[0] == []
