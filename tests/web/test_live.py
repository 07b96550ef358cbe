"""What pages are told while images arrive."""

import itertools
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from appliance.box import Box
from appliance.catalog import devices
from appliance.catalog.overview import Pulse
from appliance.errors import Transient
from appliance.model import ae_title
from appliance.web import live
from appliance.web.live import Watcher
from tests.web.conftest import fill

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def everything(pulse: Pulse) -> Pulse:
    """What somebody may know who sees every study."""
    return pulse


def told(event: str) -> Pulse:
    """The numbers of an event."""
    return Pulse(**json.loads(event.partition("data: ")[2]))


@pytest.fixture
def watcher(box: Box):
    watching = Watcher(box.catalog)
    yield watching
    watching.close()


def test_a_stream_begins_with_the_numbers_of_the_moment(watcher: Watcher) -> None:
    """So a page that was made earlier finds out what it has missed meanwhile."""
    stream = watcher.follow(lambda: False, lambda: False, everything)
    assert next(stream) == f"retry: 2000\ndata: {json.dumps(asdict(watcher.pulse()))}\n\n"


def test_an_arrival_and_a_knock_are_told(box: Box, watcher: Watcher) -> None:
    stream = watcher.follow(lambda: False, lambda: False, everything)
    before = told(next(stream))
    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("KNOCK"), "10.9.8.7", NOW)
    knocked = told(next(stream))
    assert replace(knocked, devices=before.devices) == before
    assert knocked.devices != before.devices
    fill(box, seed=77, scale=0.05)
    assert told(next(stream)).studies != before.studies


def test_a_stream_ends_when_its_browser_is_gone_and_gives_its_place_back(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 1)
    gone = False
    first = watcher.follow(lambda: gone, lambda: False, everything)
    next(first)
    with pytest.raises(Transient):
        watcher.follow(lambda: False, lambda: False, everything)
    gone = True
    assert list(first) == []
    second = watcher.follow(lambda: True, lambda: False, everything)
    assert len(list(second)) == 1


def test_a_stream_ends_with_its_session(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "COMMENT_SECONDS", 1.0)
    signed_out = [False, False, True]
    stream = watcher.follow(lambda: False, lambda: signed_out.pop(0), everything)
    assert [line for line in stream if line.startswith(":")] == [": still here\n\n"]


def test_a_stream_ends_with_its_session_on_a_busy_morning_too(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "COMMENT_SECONDS", 0.0)
    numbers = itertools.count()
    monkeypatch.setattr(watcher, "pulse", lambda: Pulse(next(numbers), 0, 0, 0, 0))
    signed_out = [False, False, True]
    stream = watcher.follow(lambda: False, lambda: signed_out.pop(0), everything)
    assert [told(event).studies for event in stream] == [0, 1, 2]


def test_closing_ends_every_stream(watcher: Watcher) -> None:
    stream = watcher.follow(lambda: False, lambda: False, everything)
    next(stream)
    watcher.close()
    assert list(stream) == []


def test_a_stream_that_was_never_read_gives_its_place_back(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 1)
    watcher.follow(lambda: False, lambda: False, everything).close()
    stream = watcher.follow(lambda: False, lambda: False, everything)
    next(stream)
    stream.close()
    stream.close()
    watcher.follow(lambda: False, lambda: False, everything).close()
