"""When an alert is raised, said again, and over; whatever a connection that flaps or a clock that jumps does."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.health import CODES
from appliance.notify.alerts import Condition, Judgement, Standing, judge
from appliance.notify.kinds import RULES, AlertRule, Channel, Severity, Topic, changed, kind_of, rule_for
from appliance.notify.texts import title

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOWN = Condition("destination-down", "cloud is not reached", "wait", "cloud")
RULE = AlertRule(
    "destination-down",
    Topic.DELIVERY,
    Severity.WARNING,
    delay_seconds=300,
    calm_seconds=120,
    repeat_seconds=3600,
)


class History:
    """What a box would remember and say, judged second by second."""

    def __init__(self, rule: AlertRule = RULE) -> None:
        self.rule = rule
        self.remembered: dict[tuple[str, str], Standing] = {}
        self.said: list[str] = []

    def at(self, seconds: float, *conditions: Condition) -> Judgement:
        decided = judge(
            lambda _: self.rule, self.remembered.values(), conditions, NOW + timedelta(seconds=seconds)
        )
        for key in decided.dropped:
            self.remembered.pop(key, None)
        for standing in decided.kept:
            self.remembered[standing.key] = standing
        for number, raised in enumerate(decided.raised, len(self.said) + 1):
            self.remembered[raised.standing.key] = replace(raised.standing, notice=number)
        for again in decided.again:
            self.remembered[again.standing.key] = again.standing
        self.said += ["raised"] * len(decided.raised) + ["again"] * len(decided.again)
        self.said += ["over"] * len(decided.over)
        return decided


def test_it_is_raised_once_when_it_has_stood_long_enough_and_is_over_when_gone_long_enough() -> None:
    history = History()
    for seconds in range(0, 300, 5):
        history.at(seconds, DOWN)
    assert history.said == []
    for seconds in range(300, 600, 5):
        history.at(seconds, DOWN)
    assert history.said == ["raised"]
    for seconds in range(600, 720, 5):
        history.at(seconds)
    assert history.said == ["raised"]
    history.at(721)
    assert history.said == ["raised", "over"]
    assert history.remembered == {}


def test_it_is_said_again_on_its_schedule() -> None:
    history = History()
    for minutes in range(0, 5 + 3 * 60 + 1, 1):
        history.at(minutes * 60, DOWN)
    assert history.said == ["raised", "again", "again", "again"]


def test_what_flaps_is_one_notice_and_counts_as_standing() -> None:
    history = History()
    for seconds in range(0, 1200, 10):
        history.at(seconds, *([DOWN] if seconds % 60 < 30 else []))
    assert history.said == ["raised"]


def test_a_short_trouble_is_never_told() -> None:
    history = History()
    for seconds in range(0, 250, 10):
        history.at(seconds, DOWN)
    for seconds in range(250, 1000, 10):
        history.at(seconds)
    assert history.said == []
    assert history.remembered == {}


def test_two_subjects_are_two_alerts_and_one_key_is_judged_once() -> None:
    history = History(replace(RULE, delay_seconds=0))
    decided = history.at(0, DOWN, replace(DOWN, subject="ortho"), replace(DOWN, words="again"))
    assert [(each.condition.subject, each.condition.words) for each in decided.raised] == [
        ("cloud", "cloud is not reached"),
        ("ortho", "cloud is not reached"),
    ]


def test_switching_a_rule_off_ends_what_stands() -> None:
    history = History(replace(RULE, delay_seconds=0))
    history.at(0, DOWN)
    history.rule = replace(history.rule, enabled=False)
    history.at(1, DOWN)
    history.at(2, DOWN)
    assert history.said == ["raised", "over"]


def test_a_clock_that_is_put_back_raises_nothing_twice_and_hides_nothing() -> None:
    history = History(replace(RULE, delay_seconds=60))
    history.at(10_000, DOWN)
    history.at(10_060, DOWN)
    assert history.said == ["raised"]
    for seconds in range(0, 3000, 60):
        history.at(seconds, DOWN)
    assert history.said == ["raised"]
    for seconds in range(3000, 4000, 60):
        history.at(seconds)
    assert history.said == ["raised", "over"]


@given(st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=60))
def test_whatever_comes_and_goes_each_alert_is_raised_then_over_in_turn(
    steps: list[tuple[int, bool]],
) -> None:
    history, seconds = History(), 0
    for pause, seen in steps:
        seconds += pause
        history.at(seconds, *([DOWN] if seen else []))
    turns = [word for word in history.said if word != "again"]
    assert turns == [("raised", "over")[number % 2] for number in range(len(turns))]
    standing = [each for each in history.remembered.values() if each.notice is not None]
    assert len(standing) == len(turns) % 2


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_nothing_is_decided_twice_at_one_moment(one: int, other: int) -> None:
    history = History()
    history.at(0, DOWN)
    for seconds in sorted((one, other)):
        history.at(seconds, DOWN)
        said = list(history.said)
        history.at(seconds, DOWN)
        assert history.said == said


# --- kinds and rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("disk-full", "disk-full"),
        ("protection-untold", "protection-lost"),
        ("disk-forecast", "disk-low"),
        ("courier-stopped", "process-stopped"),
        ("dicom-weak", "process-weak"),
        ("audit", "audit-altered"),
        ("backup-age", "backup-late"),
        ("restore-drill", "drill-late"),
        ("failed-sign-ins", "failed-sign-ins"),
        ("device-silent", "device-silent"),
        ("audit-rolled-back", "audit-altered"),
        ("update-failed", "update-failed"),
        ("update-waiting", "update-waiting"),
        ("update-by-hand", "update-by-hand"),
        ("version-chosen", "updates-unseen"),
        ("order-lapsed", "updates-unseen"),
        ("heartbeats-stopped", "heartbeats-stopped"),
        ("what nobody foresaw", "other"),
    ],
)
def test_every_problem_belongs_to_a_kind(code: str, kind: str) -> None:
    assert kind_of(code) == kind
    assert kind in RULES


WITHOUT_A_KIND = {
    "holds-forgotten": "once, after a restore; until a person has looked, and no clinic wants another rule for it",
    "province-unknown": "until somebody has said it; a new box asks for it before anything else",
    "destruction-waits": "rare, and the certificate of that destruction says it too",
    "anchor-late": "where a bucket or a disk is away, which has a kind of its own",
    "secure-boot-off": "until somebody has switched it on, once",
    "syslog-late": "of one other system, which tells of it itself",
}
"""Problems that are told as *other*, with why they need no rule of their own: who switches that kind off hears of none of them."""


def test_no_problem_is_told_as_other_without_a_reason() -> None:
    assert {code for code in CODES if kind_of(code) == "other"} == set(WITHOUT_A_KIND)


def test_a_version_that_waits_is_no_warning_and_one_that_was_left_is() -> None:
    waits, left = RULES["update-waiting"], RULES["update-failed"]
    assert (waits.severity, waits.repeat_seconds) == (Severity.INFORMATION, 0)
    assert left.severity is Severity.WARNING
    by_hand = RULES["update-by-hand"]
    assert (by_hand.severity, by_hand.repeat_seconds) == (Severity.WARNING, 7 * 86_400), (
        "nothing else starts it"
    )
    assert RULES[kind_of("audit-rolled-back")].roles == ("owner", "privacy_officer")


def test_a_kind_of_another_version_has_the_rule_and_the_title_of_other() -> None:
    rule = rule_for("of-tomorrow", {"enabled": False})
    assert (rule.kind, rule.severity, rule.enabled) == ("of-tomorrow", RULES["other"].severity, False)
    for language in ("en", "fr", "es", "zh"):
        assert title(language, "of-tomorrow", "x") == title(language, "other", "x")


def test_processes_that_stopped_are_told_apart() -> None:
    assert Condition("dicom-stopped", "", "").key != Condition("courier-stopped", "", "").key
    assert Condition("disk-full", "", "").key == ("disk-full", "")


def test_the_table_holds_what_it_promises() -> None:
    for kind, rule in RULES.items():
        assert rule.kind == kind
        assert changed(rule, {}) == rule
        assert rule.roles, "somebody hears of it"
    critical = {kind for kind, rule in RULES.items() if rule.severity is Severity.CRITICAL}
    assert {"disk-full", "damaged", "process-stopped", "audit-altered", "break-glass"} <= critical


@pytest.mark.parametrize(
    "changes",
    [
        {"delay_seconds": -1},
        {"delay_seconds": True},
        {"repeat_seconds": 10**9},
        {"severity": "loud"},
        {"channels": ["pigeon"]},
        {"roles": []},
        {"roles": "owner"},
        {"colour": "red"},
        {"severity": "critical", "channels": ["mail"]},
    ],
)
def test_a_rule_that_cannot_be_is_refused_and_never_applied(changes: Mapping[str, object]) -> None:
    with pytest.raises(Refused):
        changed(RULES["disk-low"], changes)
    assert rule_for("disk-low", changes) == RULES["disk-low"]


def test_what_a_clinic_changes_holds_and_the_rest_follows_the_table() -> None:
    rule = rule_for("disk-low", {"delay_seconds": 600, "channels": ["mail", "bell"]})
    assert (rule.delay_seconds, rule.channels) == (600, (Channel.BELL, Channel.MAIL))
    assert rule.severity is RULES["disk-low"].severity
