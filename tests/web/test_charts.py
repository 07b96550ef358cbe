"""What is drawn is what the table says: every value, in proportion, and nothing where nobody measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.web.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Value, chart, nice

values = st.lists(st.none() | st.integers(0, 10**13).map(float), max_size=60)


def of(some: list[float | None], kind: str = "bars"):
    labelled = [Value(f"day {place}", each) for place, each in enumerate(some)]
    return chart("c", "A chart", labelled, heading="Images", shown=lambda value: f"{value:.0f}", kind=kind)  # type: ignore[arg-type]


@given(values, st.sampled_from(["bars", "line"]))
def test_every_measured_value_is_drawn_once_and_every_row_is_in_the_table(
    some: list[float | None], kind: str
) -> None:
    made = of(some, kind)
    assert [mark.value for mark in made.marks] == [each for each in some if each is not None]
    assert [row[0] for row in made.rows] == [f"day {place}" for place in range(len(some))]
    drawn = [row for row in made.rows if row[1] != "—"]
    assert drawn == [(mark.label, mark.shown) for mark in made.marks]
    assert made.is_empty is (not drawn)


@given(values)
def test_heights_are_in_proportion_and_inside_the_frame(some: list[float | None]) -> None:
    made = of(some)
    top = nice(max((each for each in some if each is not None), default=0))
    for mark in made.marks:
        assert mark.height == pytest.approx((HEIGHT - TOP - BOTTOM) * mark.value / top, abs=0.01)
        assert mark.y + mark.height == pytest.approx(HEIGHT - BOTTOM, abs=0.02)
        assert mark.y >= TOP - 0.01
        assert mark.x >= LEFT
        assert mark.x + mark.width <= WIDTH - RIGHT + 0.01
    assert len(made.below) <= 7


@given(st.floats(1e-6, 1e15, allow_nan=False))
def test_an_axis_ends_at_a_round_number_that_is_enough_and_not_far_too_much(value: float) -> None:
    assert value * (1 - 1e-9) <= nice(value) <= value * 2.5 * (1 + 1e-9)


def test_a_line_has_no_bridge_over_what_nobody_measured() -> None:
    made = of([1.0, 2.0, None, 3.0, None, 4.0, 5.0], "line")
    assert len(made.paths) == 2
    assert [path.count("L") for path in made.paths] == [1, 1]
    assert of([1.0, 2.0]).paths == ()
