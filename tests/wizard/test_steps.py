"""The plan of setting up: nothing out of order, nothing before the claim, always a way on."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.wizard.steps import BEFORE_CLAIM, DEFERRABLE, State, Step, plan

steps = st.frozensets(st.sampled_from(list(Step)))
ALL = frozenset(Step)


@given(steps, steps)
def test_before_the_claim_only_welcome_language_and_claim_may_be_opened(done, later) -> None:
    found = plan(done - {Step.CLAIM}, later)
    assert {each.step for each in found.places if each.may_open} == set(BEFORE_CLAIM)
    assert found.current in BEFORE_CLAIM
    assert all(each.state is State.LOCKED for each in found.places if each.step not in BEFORE_CLAIM)


@given(steps, steps)
def test_no_step_may_be_opened_while_one_before_it_is_undone(done, later) -> None:
    found = plan(done | {Step.CLAIM}, later)
    settled = done | {Step.WELCOME, Step.LANGUAGE, Step.CLAIM} | (later & DEFERRABLE)
    for number, place in enumerate(found.places):
        before = {each.step for each in found.places[:number]}
        assert place.may_open == (before <= settled), place.step


@given(steps, steps)
def test_there_is_a_way_on_until_nothing_is_left(done, later) -> None:
    found = plan(done | {Step.CLAIM}, later)
    if found.current is None:
        assert all(each.state in (State.DONE, State.LATER) for each in found.places)
        assert all(each.may_open for each in found.places)
        assert found.finished == len(Step)
    else:
        assert found.may_open(found.current)
        assert found.place(found.current).state is State.OPEN


@given(steps, steps)
def test_doing_what_is_next_always_comes_to_an_end(done, later) -> None:
    """From whatever state a box is left in, doing the next step again and again finishes, in order."""
    done = set(done)
    walked = []
    while (step := plan(done, later).current) is not None:
        assert step not in walked
        walked.append(step)
        done.add(step)
    assert walked == sorted(walked, key=list(Step).index)


@given(steps, st.sampled_from(sorted(ALL - DEFERRABLE)))
def test_what_must_be_done_cannot_be_left_for_later(done, step) -> None:
    found = plan((done | {Step.CLAIM}) - {step}, ALL)
    assert found.place(step).state is not State.LATER


@given(steps, steps, st.sampled_from(list(Step)))
def test_continue_never_leads_back(done, later, step) -> None:
    after = plan(done | {Step.CLAIM}, later).after(step)
    assert after is None or list(Step).index(after) > list(Step).index(step)


def test_what_is_undone_opens_its_step_again_and_closes_those_behind_it() -> None:
    assert plan(ALL, ()).current is None
    found = plan(ALL - {Step.RECOVERY}, ())
    assert found.current is Step.RECOVERY
    assert not found.may_open(Step.TRIAL)
    assert found.place(Step.TRIAL).state is State.DONE
