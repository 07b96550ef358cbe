"""The short form of the reachability model: the lives of forty studies on one box with two disks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.backup import asking, homecoming, making
from appliance.catalog import obeying, settings
from appliance.lifecycle.request import Method
from appliance.replication import documents
from appliance.replication.documents import Documents
from appliance.store.root_key import seal_slot
from tests.campaigns import reachability
from tests.campaigns.clinic_checks import check, check_study, check_to_the_bottom, opens_with
from tests.campaigns.clinic_places import prepare_template
from tests.campaigns.clinic_world import World
from tests.campaigns.reachability import OF_A_STUDY, OF_THE_BOX, SHORTEST, Step, world_of


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_acknowledged_is_reachable_and_what_is_destroyed_is_not(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds:
        outcome = reachability.run(Path(worlds), histories=40, seed=235)
    assert (outcome.histories, outcome.worlds) == (40, 1)
    assert {*OF_A_STUDY} - {"withdraw", "recall"} <= set(outcome.done), "nearly every kind of step was taken"
    assert {"archive done", "images left", "burn", "scrub", "rotate_root", "outage", "burnt midway"} <= set(
        outcome.done
    )
    assert {"destroy: studies", "anonymise: studies", "images kept anonymous"} <= set(outcome.done)
    print(outcome)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    prepare_template(tmp_path)
    world = World(tmp_path)
    yield world
    world.close()


@pytest.mark.slow
def test_the_model_sees_an_image_that_is_lost(world: World) -> None:
    """The check itself is worth nothing if it cannot fail."""
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    check(world)
    for path in world.here.rglob("objects/??/*.sealed"):
        path.unlink()
    with pytest.raises(AssertionError, match="cannot be read"):
        check(world)
    with pytest.raises(AssertionError, match="cannot be read"):
        check_study(world, 0)


@pytest.mark.slow
def test_the_model_sees_an_image_that_changes_after_it_was_read(world: World) -> None:
    world.take("receive", 0, 0, 0)
    check(world)
    (path,) = (world.here / "box-0").rglob("objects/??/*.sealed")
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(AssertionError, match="cannot be read"):
        check(world)


UNTIL_A_FIRE, AFTER_STEPS, NO_FIRE = 5, 2 * 3 + 1, 0
"""How a destruction is drawn: cut by a fire after three of its steps, or carried to its end."""


@pytest.mark.slow
def test_an_image_that_comes_after_a_destruction_that_was_cut_is_known_by_its_new_key(world: World) -> None:
    """The key is destroyed, and still at hand: nobody had come to put it out of memory (seed 29000016)."""
    for study in (0, 2):
        world.take("receive", study, 0, 0)
    world.take("years", -1, 0, 0)
    for study in (0, 2):
        world.take("ask", study, 0, 1)
    world.take("carry_out", -1, UNTIL_A_FIRE, AFTER_STEPS)
    check(world)
    assert world.notes["destruction cut by fire"] == 1
    assert world.boxes == 0, "there is nothing to restore from"
    assert {each.study for each in world.gone.values()} == {0, 2}
    for study in (0, 2):
        world.take("again", study, 0, 0)
    check(world)
    assert not {each.key_id for each in world.alive.values()} & world.ever_destroyed
    world.take("carry_out", -1, NO_FIRE, 0)
    check_to_the_bottom(world)


WITH_A_BACKUP_FIRST, A_MINUTE_EACH = 20, 2
"""How a fire midway is drawn: to `usb`, restored from a backup made before the delivery; or by manifests, which are due with every image."""


@pytest.mark.slow
def test_the_model_sees_that_nobody_asks_for_what_lies_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in range(6):
        world.take("receive", study, 0, 0)
    world.take("burn_midway", -1, WITH_A_BACKUP_FIRST, 10)
    check(world)
    assert world.notes["cut by fire"] == 1
    assert world.notes["found without a receipt"] > 0
    monkeypatch.setattr(asking, "ask", lambda *_, **__: 0)
    for study in range(10, 16):
        world.take("receive", study, 0, 0)
    with pytest.raises(AssertionError, match="nobody asks for it"):
        world.take("burn_midway", -1, WITH_A_BACKUP_FIRST, 10)


@pytest.mark.slow
def test_the_model_sees_that_no_manifest_is_written_while_a_backlog_drains(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in range(6):
        world.take("receive", study, 0, 0)
    monkeypatch.setattr(Documents, "between", lambda *_: None)
    with pytest.raises(AssertionError, match="no manifest names them"):
        world.take("burn_midway", -1, A_MINUTE_EACH, 16)


@pytest.mark.slow
def test_the_model_sees_a_study_that_is_held_leave(world: World) -> None:
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    world.holds[1] = frozenset({0})  # by our account only: so the product lets it leave
    with pytest.raises(AssertionError, match="is held, and left"):
        world.take("evict", 0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "believed", "said"),
    [
        (Method.DESTROY, Method.ANONYMISE, "0 are kept in its place"),
        (Method.ANONYMISE, Method.DESTROY, "something is kept"),
    ],
)
def test_the_model_sees_a_study_that_is_not_kept_as_it_was_decided(
    world: World, asked: Method, believed: Method, said: str
) -> None:
    world.take("receive", 0, 0, 0)
    world.take("years", -1, 0, 0)
    assert world.take("ask", 0, 1, 0 if asked is Method.ANONYMISE else 1)
    ((number, decided),) = world.requests.items()
    assert decided.method is asked
    world.requests[number] = replace(decided, method=believed)
    with pytest.raises(AssertionError, match=said):
        world.take("carry_out", -1, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("what", range(3))
def test_a_disk_that_goes_in_the_middle_gets_what_it_is_owed_once_it_is_back(world: World, what: int) -> None:
    for number in range(4):
        world.take("receive", number, number, 0)
    assert world.take("outage", -1, 4, what)
    assert not world.shelves["usb"].plugged
    check(world)
    world.take("deliver", -1, 0, 0)
    assert world.receipts["nas"] == set(world.alive), "the other disk is served meanwhile"
    world.take("plug", -1, 0, 0)
    world.take("deliver", -1, 0, 0)
    assert world.receipts["usb"] == set(world.alive)
    check(world)


@pytest.mark.slow
def test_a_receipt_that_a_manifest_brought_home_is_not_one_of_a_disk_that_is_away(world: World) -> None:
    """Found by a campaign: by our account it was not sure that the manifest had been written, so that it stands in limbo."""
    for study, one, two in ((7, 29370, 703), (13, 57215, 29409), (2, 61159, 40606), (21, 39506, 13900)):
        if study == 2:
            world.take("back_up", -1, 31686, 3755)
        world.take("receive", study, one, two)
    for name, one, two in (
        ("outage", 36150, 12465),
        ("plug", 57449, 50744),
        ("burn", 27776, 23640),
        ("outage", 34424, 3360),
    ):
        assert world.take(name, -1, one, two)
        check(world)
    assert world.limbo
    assert not world.shelves["usb"].plugged


@pytest.mark.slow
def test_what_comes_back_from_a_disk_that_was_away_may_be_kept_without_whoever_it_is_of(world: World) -> None:
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    world.take("years", -1, 0, 0)
    assert world.take("unplug", -1, 1, 0)
    assert world.take("ask", 0, 1, 1)
    world.take("carry_out", -1, 0, 0)
    assert world.take("plug", -1, 0, 0)
    assert world.take("burn_without_backups", -1, 1, 0)
    assert world.limbo, "the disk that was away has brought it back"
    assert world.take("unplug", -1, 0, 0), "the other disk, which would tell that it was destroyed"
    assert world.take("ask", 0, 1, 0), "and two people decide on it once more"
    world.take("carry_out", -1, 0, 0)
    check(world)
    assert world.notes["images kept anonymous"] == 1


@pytest.mark.slow
def test_a_box_that_a_fire_made_forget_a_destruction_backs_up_no_more_than_it_knows(world: World) -> None:
    for study in (0, 1):
        world.take("receive", study, 0, 0)
    world.take("deliver", -1, 0, 0)
    world.take("years", -1, 0, 0)
    assert world.take("unplug", -1, 1, 0)
    assert world.take("ask", 1, 1, 1)
    world.take("carry_out", -1, 0, 0)
    assert world.take("back_up", -1, 0, 0)
    usb = world.shelves["usb"]
    assert usb.backups[[*usb.backups][-1]].gone == set(world.gone)
    usb.buried.clear()  # as if nothing had reached this disk since
    assert world.take("burn_without_backups", -1, 0, 0)
    assert world.take("back_up", -1, 0, 0)
    assert usb.backups[[*usb.backups][-1]].gone == frozenset()


USB, NAS = 0, 1
"""How a step is drawn that is of one disk."""


@pytest.mark.slow
def test_an_image_that_comes_late_is_the_version_that_it_was(world: World) -> None:
    """The first of two versions lies on the one disk and the second on the other, from which the box comes back (seed 54000006)."""
    assert world.take("unplug", -1, NAS, 0)
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    assert world.take("rot", 0, 0, 0), "so that it can't be delivered while the other disk is away"
    assert world.take("plug", -1, 0, 0)
    assert world.take("unplug", -1, USB, 0)
    world.take("receive", 0, 3, 0)
    world.take("deliver", -1, 0, 0)
    assert world.take("plug", -1, 0, 0)
    assert world.take("burn_without_backups", -1, NAS, 0)
    assert [each.first for each in world.alive.values()] == [False]
    world.take("home", -1, 0, 0)
    assert [each.first for each in world.alive.values()] == [False, True]
    world.take("years", -1, 0, 0)
    assert world.take("ask", 0, 1, 0)
    world.take("carry_out", -1, NO_FIRE, 0)
    assert world.notes["images kept anonymous"] == 1
    check_to_the_bottom(world)


@pytest.mark.slow
def test_nobody_decides_about_what_only_a_disk_that_was_away_knows(world: World) -> None:
    """A study is destroyed, and one image of it that a fire took comes back later: this box never had its key (seed 37000003)."""
    world.take("receive", 2, 0, 0)
    world.take("deliver", -1, 0, 0)
    assert world.take("back_up", -1, USB, 0)
    assert world.take("unplug", -1, USB, 0)
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    assert world.take("rot_archive", 0, NAS, 0)
    assert world.take("plug", -1, 0, 0)
    assert world.take("burn", -1, USB, 0)
    world.take("home", -1, 0, 0)
    (lost,) = world.limbo
    assert world.take("unplug", -1, NAS, 0), "the only one that knows of it"
    assert world.take("burn", -1, USB, 0)
    world.take("receive", 0, 1, 0)
    world.take("years", -1, 0, 0)
    assert world.take("ask", 0, 1, 1)
    world.take("carry_out", -1, NO_FIRE, 0)
    assert {each.study for each in world.gone.values()} == {0} and lost in world.burnt
    check(world)
    assert world.take("plug", -1, 0, 0)
    world.take("home", -1, 0, 0)
    assert lost in world.limbo
    check_to_the_bottom(world)


def _back_with_an_earlier_paper(world: World) -> None:
    """`usb` was away when a new paper was issued, and the box came back from there: its own paper is the earlier one now."""
    world.take("deliver", -1, 0, 0)
    world.take("receive", 0, 0, 0)
    assert world.take("unplug", -1, USB, 0)
    world.take("rotate_paper", -1, 0, 0)
    assert world.take("plug", -1, 0, 0)
    assert world.take("burn", -1, USB, 0)
    assert world.papers.index(world.paper) == 0
    assert opens_with(world.archive("nas"), world.papers[1])


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 6])
def test_a_fire_may_come_before_or_after_an_earlier_paper_took_the_place_of_a_later_one(
    world: World, after: int
) -> None:
    """A slot of the same root key gives way to that of the box in service, whichever was printed first (seed 31000027)."""
    _back_with_an_earlier_paper(world)
    world.take("receive", 1, 0, 0)
    assert world.take("burn_midway", -1, NAS, after)
    check(world)
    assert world.boxes == 2


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 6])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_disk_may_be_pulled_out_once_an_earlier_paper_took_the_place_of_a_later_one(
    world: World, after: int, is_replaced: bool
) -> None:
    """And what the box in service has issued since it went does not open it."""
    _back_with_an_earlier_paper(world)
    world.take("receive", 1, 0, 0)
    assert world.take("outage", -1, NAS + 2 * after, 0)
    if is_replaced:
        world.take("rotate_paper", -1, 0, 0)
    assert world.take("plug", -1, 0, 0)
    assert world.take("burn", -1, NAS, 0)
    check(world)


@pytest.mark.slow
@pytest.mark.slow
def test_a_backup_is_newer_than_those_of_a_life_whose_key_this_box_never_had(world: World) -> None:
    """Found by a campaign: the disk was away when the root key was changed, so the box that came back from it can't open what the other holds."""
    for name, one, two in (
        ("carry_out", 28893, 56680),
        ("rotate_root", 18248, 46353),
        ("back_up", 65243, 52463),
        ("plug", 35953, 27482),
        ("burn", 7610, 4565),
        ("back_up", 11255, 4069),
    ):
        world.take(name, -1, one, two)
    newest = list(world.shelves["nas"].backups)[-1]
    assert world.take("burn", -1, 13669, 39958)  # which says so if another one is taken
    with world.box.catalog.reading() as reading:
        assert settings.get(reading, homecoming.LAST)["snapshot"] == newest


def test_a_disk_that_is_another_box_s_to_ours_keeps_its_paper(world: World) -> None:
    """The root key was changed too while `usb` was away: the box that came back from there lays nothing on the other disk."""
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    assert world.take("unplug", -1, USB, 0)
    world.take("receive", 1, 0, 0)
    for name in ("rotate_paper", "rotate_root", "deliver", "plug"):
        world.take(name, -1, 0, 0)
    assert world.take("burn", -1, USB, 0)
    assert world.shelves["nas"].apart
    world.take("deliver", -1, 0, 0)
    check(world)
    assert world.take("burn", -1, NAS, 0)
    assert world.papers.index(world.paper) == 1
    check(world)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["burn", "burn_without_backups", "burn_midway"])
def test_a_backup_brings_its_paper_beside_that_of_the_manifests(world: World, way: str) -> None:
    """Where no backup is found, what lies there opens with the paper that it was delivered under."""
    _back_with_an_earlier_paper(world)
    assert world.take("back_up", -1, NAS, 0)
    assert world.take(way, -1, NAS, 0)
    check(world)


@pytest.mark.slow
def test_the_model_sees_a_backup_that_our_paper_does_not_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.take("deliver", -1, 0, 0)
    assert world.take("unplug", -1, NAS, 0)
    world.take("rotate_paper", -1, 0, 0)
    assert world.take("plug", -1, 0, 0)
    root = world.box.root
    monkeypatch.setattr(making, "whole_recovery_slot", lambda _: seal_slot(root, b"R", b"of nobody's paper"))
    with pytest.raises(AssertionError, match="has our backup, and not our paper"):
        world.take("back_up", -1, NAS, 0)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["burn", "burn_midway"])
def test_the_model_sees_a_disk_that_opens_with_none_of_its_papers(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    _back_with_an_earlier_paper(world)
    root = world.box.root
    monkeypatch.setattr(
        documents, "whole_recovery_slot", lambda _: seal_slot(root, b"R", b"of nobody's paper")
    )
    world.take("deliver", -1, 0, 0)
    with pytest.raises(AssertionError, match="there is something to restore from, and it is refused"):
        world.take(way, -1, NAS, 0)


@pytest.mark.slow
def test_the_model_sees_that_a_new_paper_did_not_reach_a_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the earlier one opens it still is not what was promised."""
    world.take("receive", 0, 0, 0)
    world.take("deliver", -1, 0, 0)
    monkeypatch.setattr(Documents, "_keep_slot", lambda *_: None)
    world.take("rotate_paper", -1, 0, 0)
    with pytest.raises(AssertionError, match="there is something to restore from, and it is refused"):
        world.take("burn", -1, NAS, 0)


BEFORE_OLDER_BACKUPS_GO = 5, 0
"""How a fire in the middle of a destruction is drawn: the box comes back from `usb`, where the tombstone lies, and an older backup."""


@pytest.mark.slow
@pytest.mark.parametrize("forgets", [False, True])
def test_the_model_sees_a_destruction_that_a_fire_has_ended_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch, forgets: bool
) -> None:
    if forgets:
        monkeypatch.setattr(obeying, "_owe", lambda *_: ("", False))
    for study in (0, 1):
        world.take("receive", study, 0, 0)
    world.take("deliver", -1, 0, 0)
    for shelf in (0, 1):
        assert world.take("back_up", -1, shelf, 0)
    world.take("years", -1, 0, 0)
    assert world.take("ask", 1, 1, 1)
    world.take("carry_out", -1, *BEFORE_OLDER_BACKUPS_GO)
    assert world.boxes == 1 and world.owing
    check(world)
    assert not any(shelf.done or shelf.ended for shelf in world.shelves.values())
    world.take("carry_out", -1, 0, 0)
    assert all(shelf.ended for shelf in world.shelves.values())
    if forgets:
        with pytest.raises(AssertionError, match=r"the archive is done, and its backup .* has the key"):
            check_to_the_bottom(world)
    else:
        check_to_the_bottom(world)


def test_a_world_is_drawn_from_its_seed_and_has_whole_lives() -> None:
    steps = world_of(7, 40)
    assert steps == world_of(7, 40) != world_of(8, 40)
    assert {each.study for each in steps} == {-1, *range(40)}
    assert {each.name for each in steps if each.study < 0} <= set(OF_THE_BOX)
    for study in range(40):
        life = [each.name for each in steps if each.study == study]
        assert life[0] == "receive", "a life begins with an image"
        assert len(life) >= SHORTEST


def test_a_violation_is_shrunk_to_the_steps_that_it_needs() -> None:
    steps = [Step(name, 0, 0, 0) for name in "abcdefgh"]
    left = list(steps)
    for candidate in reachability._without_some(left):
        if {"c", "f"} <= {each.name for each in candidate}:
            left[:] = candidate
    assert [each.name for each in left] == ["c", "f"]


def test_a_shorter_history_of_another_kind_is_another_finding() -> None:
    one = "evict(3, 1, 2): AssertionError: 96e1835f72e5dc4c left, and only ['usb'] has it whole"
    other = "evict(7, 9, 9): AssertionError: 0123456789abcdef left, and only ['usb'] has it whole"
    assert reachability._kind(one) == reachability._kind(other)
    assert reachability._kind(one) != reachability._kind("scrub(-1, 0, 0): AssertionError: it is rotten")
