"""The states of a request to destroy, written down a second time: as sentences, not as a table."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.lifecycle.request import TRANSITIONS, Event, State, after

OVER = {State.CARRIED_OUT, State.WITHDRAWN, State.EXPIRED}


def restated(state: State, event: Event) -> State | None:
    if state in OVER:
        return None
    if event is Event.APPROVE:
        return State.APPROVED if state is State.OPEN else None
    if event is Event.FINISH:
        return State.CARRIED_OUT if state is State.APPROVED else None
    return State.EXPIRED if event is Event.EXPIRE else State.WITHDRAWN


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_the_table_says_what_the_sentences_say(state: State, event: Event) -> None:
    wanted = restated(state, event)
    if wanted is None:
        with pytest.raises(Refused, match=state):
            after(state, event)
    else:
        assert after(state, event) is wanted


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


@given(st.lists(st.sampled_from(list(Event)), max_size=12))
def test_nothing_is_carried_out_that_was_not_approved_and_nothing_comes_back(events: list[Event]) -> None:
    state, seen = State.OPEN, [State.OPEN]
    for event in events:
        try:
            state = after(state, event)
        except Refused:
            continue
        assert seen[-1] not in OVER
        seen.append(state)
    assert len(seen) == len(set(seen))
    assert State.CARRIED_OUT not in seen or State.APPROVED in seen
