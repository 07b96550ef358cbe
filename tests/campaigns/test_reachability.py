"""The short form of the reachability model: twenty-five histories of a clinic with two disks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.campaigns import reachability
from tests.campaigns.clinic_checks import check
from tests.campaigns.clinic_places import prepare_template
from tests.campaigns.clinic_world import World


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_acknowledged_is_reachable_and_what_is_destroyed_is_not(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds:
        outcome = reachability.run(Path(worlds), histories=25, seed=1)
    assert outcome.histories == 25
    assert set(reachability.STEPS) <= set(outcome.done), "every kind of step was taken"
    assert outcome.done["destroyed"] > 0
    print(outcome)


@pytest.mark.slow
def test_the_model_sees_an_image_that_is_lost(tmp_path: Path) -> None:
    """The check itself is worth nothing if it cannot fail."""
    prepare_template(tmp_path)
    world = World(tmp_path)
    try:
        world.take("receive", 0, 0)
        world.take("deliver", 0, 0)
        check(world)
        for path in world.here.rglob("objects/??/*.sealed"):
            path.unlink()
        with pytest.raises(AssertionError, match="cannot be read"):
            check(world)
    finally:
        world.close()


def test_a_violation_is_shrunk_to_the_steps_that_it_needs() -> None:
    steps = [reachability.Step(name, 0, 0) for name in "abcdefgh"]
    left = list(steps)
    for candidate in reachability._without_one(left):
        if {"c", "f"} <= {each.name for each in candidate}:
            left[:] = candidate
    assert [each.name for each in left] == ["c", "f"]
