"""Records of minutes become one of an hour, and nothing is lost or counted twice on the way."""

import json

from hypothesis import given
from hypothesis import strategies as st

from appliance.figures import Figures, merged
from appliance.latency import Histogram


def _of(values: list[float]) -> Histogram:
    """A histogram whose seconds are eighths, which add up exactly."""
    made = Histogram()
    for each in values:
        made.observe(each)
    made.seconds = round(made.seconds * 8) / 8
    return made


counts = st.integers(0, 10_000)
names = st.dictionaries(st.sampled_from(["cloud", "pacs"]), counts)
histograms = st.lists(st.sampled_from([0.001, 0.25, 8.0]), max_size=4).map(_of)
figures = st.builds(
    Figures,
    received=counts,
    received_bytes=counts,
    delivered=counts,
    failed=counts,
    free_bytes=st.none() | counts,
    waiting=names,
    oldest_seconds=names,
    latencies=st.dictionaries(st.sampled_from(["receive", "page"]), histograms),
)


@given(figures, figures, figures)
def test_it_does_not_matter_which_are_put_together_first(a: Figures, b: Figures, c: Figures) -> None:
    assert merged(merged(a, b), c) == merged(a, merged(b, c))


@given(figures)
def test_nothing_changes_nothing(some: Figures) -> None:
    assert merged(Figures(), some) == merged(some, Figures()) == some


@given(figures, figures)
def test_sums_add_up_states_are_the_latest_ages_the_worst(a: Figures, b: Figures) -> None:
    both = merged(a, b)
    assert both.received == a.received + b.received
    assert both.free_bytes == (a.free_bytes if b.free_bytes is None else b.free_bytes)
    for name, waited in both.waiting.items():
        assert waited == b.waiting.get(name, a.waiting.get(name))
    for name, age in both.oldest_seconds.items():
        assert age == max(each.oldest_seconds.get(name, 0) for each in (a, b))


@given(figures)
def test_figures_survive_their_own_json(some: Figures) -> None:
    assert Figures.of_detail(json.loads(json.dumps(some.as_detail()))) == some
