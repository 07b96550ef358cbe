"""Tests of setting up on record: how far, what failed, tried again from there, whoever pulls the plug."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import settings
from appliance.errors import Transient
from appliance.wizard import runs
from appliance.wizard.runs import LeftOut, PartState
from tests.boxes import box_in


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as opened:
        yield opened


def latest(box: Box, name: str = "trial"):
    with box.catalog.reading() as conn:
        return runs.latest(box, conn, name)


def states(run) -> dict[str, str]:
    return {each.name: each.state.value for each in run.parts}


def fails(cause: str) -> Callable:
    def act(tell):
        raise Transient(cause, hint="mend it")

    return act


def test_how_far_a_part_is_can_be_read_while_it_is_at_work(box: Box) -> None:
    seen = []

    def act(tell):
        tell({"done": 1, "all": 3})
        found = latest(box)
        assert found is not None
        seen.append((states(found), dict(found.part("first").detail), found.is_running))
        return {"ms": 5}

    done = runs.run(box, "trial", "s", {"first": act, "second": lambda tell: {}})
    assert seen == [({"first": "running", "second": "waiting"}, {"done": 1, "all": 3}, True)]
    assert done.passed
    assert done.part("first").detail == {"done": 1, "all": 3, "ms": 5}
    assert latest(box) == done


def test_it_is_on_record_as_running_from_the_press_of_the_button_to_the_end(box: Box, monkeypatch) -> None:
    """A page that finds it not running stops looking: then it must have ended."""
    begun = runs.begin(box, "trial", "s", {"first": lambda tell: {}, "second": lambda tell: {}})
    found = latest(box)
    assert found is not None
    assert states(found) == {"first": "running", "second": "waiting"}
    kept = []
    put = settings.put

    def watched(tx, key, value, moment):
        put(tx, key, value, moment)
        kept.append(value)

    monkeypatch.setattr(settings, "put", watched)
    assert begun.finish().passed
    running = [any(part["state"] == "running" for part in each["parts"]) for each in kept]
    assert running == [True, False], "never without a running part before the last one is done"


def test_what_ends_between_reading_and_looking_at_the_lock_is_not_called_interrupted(box: Box) -> None:
    begun = runs.begin(box, "trial", "s", {"first": lambda tell: {}})
    with box.catalog.reading() as conn:
        settings.get(conn, "anything")  # from here on this reading sees the box as it was
        done = begun.finish()
        found = runs.latest(box, conn, "trial")
        assert found is not None
        assert states(found) == {"first": "running"}, (
            "nor is there what it came to: who shows both looks again"
        )
    assert latest(box) == done


def test_the_first_failure_ends_it_with_its_cause_and_trying_again_goes_on_there(box: Box) -> None:
    calls = []

    def counted(tell):
        calls.append(1)
        return {}

    failed = runs.run(box, "trial", "s", {"first": counted, "second": fails("no"), "third": counted})
    assert states(failed) == {"first": "done", "second": "failed", "third": "waiting"}
    assert failed.failed is not None
    assert (failed.failed.cause, failed.failed.hint) == ("no", "mend it")
    assert not failed.passed
    again = runs.run(box, "trial", "s", {"first": counted, "second": counted, "third": counted})
    assert again.passed
    assert len(calls) == 3, "the first part was not done twice"


def test_what_was_proved_of_another_subject_proves_nothing(box: Box) -> None:
    calls = []

    def counted(tell):
        calls.append(1)
        return {}

    runs.run(box, "trial", "one", {"first": counted})
    runs.run(box, "trial", "other", {"first": counted})
    assert len(calls) == 2


def test_a_part_with_nothing_to_do_says_why_and_is_asked_again_next_time(box: Box) -> None:
    def nothing(tell):
        raise LeftOut("no_destination")

    found = runs.run(box, "trial", "s", {"first": nothing})
    assert found.passed
    assert found.part("first").detail == {"reason": "no_destination"}
    assert runs.run(box, "trial", "s", {"first": lambda tell: {}}).part("first").state is PartState.DONE


def test_an_unforeseen_failure_is_told_without_its_words(box: Box) -> None:
    def act(tell):
        raise KeyError("Tremblay^Marie")

    failed = runs.run(box, "trial", "s", {"first": act}).failed
    assert failed is not None
    assert "KeyError" in failed.cause
    assert "Tremblay" not in failed.cause


def test_it_is_not_run_twice_at_once(box: Box) -> None:
    def act(tell):
        with pytest.raises(Transient):
            runs.run(box, "trial", "s", {"first": lambda tell: {}})
        return {}

    assert runs.run(box, "trial", "s", {"first": act}).passed


def test_a_process_that_is_killed_in_mid_part_leaves_it_interrupted_and_resumable(
    box: Box, data_dir: Path, tmp_path: Path
) -> None:
    program = """
import sys, time
from pathlib import Path
from appliance.wizard import runs
from tests.boxes import box_in

def hangs(tell):
    tell({"done": 1})
    print("in the middle", flush=True)
    time.sleep(600)

with box_in(Path(sys.argv[1])) as box:
    runs.run(box, "trial", "s", {"first": lambda tell: {"kept": 1}, "second": hangs})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"in the middle\n"
    running = latest(box)
    assert running is not None
    assert running.is_running, "while it lives it runs, whoever looks"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    cut = latest(box)
    assert cut is not None
    assert states(cut) == {"first": "done", "second": "failed"}
    assert cut.failed is not None
    assert cut.failed.cause == runs.INTERRUPTED
    done = runs.run(box, "trial", "s", {"first": fails("it was done already"), "second": lambda tell: {}})
    assert done.passed


def test_a_test_that_is_forgotten_begins_from_nothing(box: Box) -> None:
    runs.run(box, "trial", "s", {"first": lambda tell: {}})
    runs.forget(box, "trial")
    assert latest(box) is None
