"""A pace: so many in a time, for each, without remembering everybody for ever."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.web import pace
from appliance.web.pace import Pace


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60).map(sorted))
def test_no_window_ever_holds_more_than_allowed(moments: list[float]) -> None:
    asked = Pace(3, 10.0)
    allowed = [moment for moment in moments if asked.allows("a", moment)]
    for start in allowed:
        assert sum(start <= each < start + 10.0 for each in allowed) <= 3


def test_each_key_has_its_own_pace_and_keys_are_bounded() -> None:
    asked = Pace(1, 10.0)
    assert asked.allows("a", 0.0)
    assert not asked.allows("a", 1.0)
    assert asked.allows("b", 1.0)
    for number in range(2 * pace._REMEMBERED):
        asked.allows(str(number), 2.0)
    assert len(asked._asked) == pace._REMEMBERED


def test_questions_at_the_door_are_paced(app) -> None:
    from tests.web.conftest import csrf_of

    browser = app.test_client()
    base = {"REMOTE_ADDR": "10.3.3.3"}
    token = csrf_of(browser.get("/sign-in", environ_base=base).get_data(as_text=True))
    statuses = [
        browser.post("/sign-in/passkey/question", data={"csrf": token}, environ_base=base).status_code
        for _ in range(31)
    ]
    assert statuses == [200] * 30 + [429]
