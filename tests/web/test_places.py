"""A few requests at once, in the order in which they came; nobody is kept out by those that wait for something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.web import places
from appliance.web.places import InPlaces, Places


class _Visitor:
    """Somebody who holds a place until told to leave."""

    def __init__(self, of: Places, came: list[str], name: str) -> None:
        self.left = threading.Event()
        self._of, self._came, self._name = of, came, name
        self._thread = threading.Thread(target=self._stay, daemon=True)
        self._thread.start()

    def _stay(self) -> None:
        with self._of.one():
            self._came.append(self._name)
            self.left.wait(30)

    def leave(self) -> None:
        self.left.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes on unless called."""
    monkeypatch.setattr(places, "LONG_SECONDS", 3600.0)


@pytest.mark.usefixtures("patient")
def test_so_many_at_once_and_the_others_in_the_order_in_which_they_came(
    eventually: Callable[..., object],
) -> None:
    rooms, came = Places(most=2), list[str]()
    visitors = []
    for number, name in enumerate("abcde", start=1):
        visitors.append(_Visitor(rooms, came, name))
        eventually(lambda number=number: rooms.waiting + len(came) == number)
    assert came == ["a", "b"]
    for number, each in enumerate(visitors, start=3):
        each.leave()
        eventually(lambda number=number: len(came) >= min(number, 5))
        assert came == list("abcde")[: min(number, 5)]
    assert rooms.waiting == 0


def test_who_waits_for_something_else_keeps_nobody_out(eventually: Callable[..., object]) -> None:
    rooms, came = Places(most=1), list[str]()
    slow = _Visitor(rooms, came, "slow")
    eventually(lambda: came == ["slow"])
    quick = _Visitor(rooms, came, "quick")
    eventually(lambda: came == ["slow", "quick"])  # though the place was never given back
    for each in (slow, quick):
        each.leave()


@pytest.mark.usefixtures("patient")
def test_a_place_held_for_long_counts_no_more(eventually: Callable[..., object]) -> None:
    moment = [0.0]
    rooms, came = Places(most=1, clock=lambda: moment[0]), list[str]()
    slow = _Visitor(rooms, came, "slow")
    eventually(lambda: came == ["slow"])
    moment[0] = places.LONG_SECONDS + 1
    quick = _Visitor(rooms, came, "quick")
    eventually(lambda: came == ["slow", "quick"])
    for each in (slow, quick):
        each.leave()


@pytest.mark.usefixtures("patient")
def test_a_request_that_fails_gives_its_place_back() -> None:
    def fails(environ: Any, start_response: Any) -> Any:
        raise RuntimeError("no answer")

    rooms = Places(most=1)
    for _ in range(3):  # the second would wait for an hour
        with pytest.raises(RuntimeError):
            InPlaces(fails, rooms)({}, lambda *_: lambda _: None)


@pytest.mark.usefixtures("patient")
def test_what_is_streamed_holds_no_place() -> None:
    def streams(environ: Any, start_response: Any) -> Iterator[bytes]:
        def pieces() -> Iterator[bytes]:
            yield b"first"
            yield b"second"

        return pieces()

    application = InPlaces(streams, Places(most=1))
    one = iter(application({}, lambda *_: lambda _: None))
    assert next(one) == b"first"
    other = iter(application({}, lambda *_: lambda _: None))
    assert (next(other), next(one), next(other)) == (b"first", b"second", b"second")
