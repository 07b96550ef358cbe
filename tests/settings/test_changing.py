"""Settings are typed, change all or nothing, remember what they were, and keep their secrets."""

import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance import audit, health, settings
from appliance.box import Box
from appliance.catalog import operator_settings
from appliance.errors import Corrupt, Refused, Unknown
from appliance.settings import SETTINGS, NotAccepted
from appliance.store.keys import RootKey
from tests.settings.conftest import NOW, Changer

SECRET = "correct horse battery staple"


def _audited(box: Box) -> list[dict[str, Any]]:
    with box.catalog.reading() as reading:
        return [row for row in audit.export(reading) if row["action"] == "setting:change"]


def test_every_setting_has_a_default_that_it_would_accept(box: Box) -> None:
    with box.catalog.reading() as reading:
        for key, each in SETTINGS.items():
            if not each.is_secret:
                assert each.kind.check(settings.get(reading, key)) == settings.get(reading, key)
                assert each.kind.read(each.kind.write(settings.get(reading, key))) == settings.get(
                    reading, key
                )


def test_a_change_holds_and_the_default_comes_back(box: Box, change: Changer) -> None:
    assert [done.key for done in change({"clinic.name": " Clinique Émard ", "mail.port": 25})] == [
        "clinic.name",
        "mail.port",
    ]
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.name") == "Clinique Émard"
        assert settings.get_section(reading, "mail")["port"] == 25
        assert settings.is_set(reading, "mail.port")
    change({"mail.port": None})
    with box.catalog.reading() as reading:
        assert settings.get(reading, "mail.port") == 587
        assert not settings.is_set(reading, "mail.port")


def test_one_wrong_value_changes_nothing_and_every_wrong_one_is_named(box: Box, change: Changer) -> None:
    with pytest.raises(NotAccepted) as refusal:
        change({"clinic.name": "Émard", "mail.port": 0, "clinic.privacy_officer_email": "nobody"})
    assert set(refusal.value.refusals) == {"mail.port", "clinic.privacy_officer_email"}
    assert all(each.hint for each in refusal.value.refusals.values())
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.name") == ""
        assert settings.history(reading) == []
    assert _audited(box) == []


def test_settings_that_contradict_each_other_are_refused(box: Box, change: Changer) -> None:
    with pytest.raises(NotAccepted, match="idle"):
        change({"sessions.idle_minutes": 600, "sessions.absolute_hours": 8})
    change({"sessions.idle_minutes": 400, "sessions.absolute_hours": 8})
    with pytest.raises(NotAccepted) as refusal:  # what is kept already counts too
        change({"sessions.absolute_hours": 1})
    assert set(refusal.value.refusals) == {"sessions.idle_minutes"}


def test_what_did_not_fit_together_before_refuses_no_other_change(box: Box, change: Changer) -> None:
    """A limit that came with an update may contradict what the clinic chose long ago."""
    with box.catalog.transaction() as tx:
        operator_settings.put(tx, "backup.every_hours", 168, NOW)
    change({"clinic.name": "Clinique Émard"})
    with pytest.raises(NotAccepted, match="before the next one"):
        change({"health.backup_late_days": 3})
    change({"health.backup_late_days": 8, "health.backup_urgent_days": 9})


def test_a_number_from_before_its_bounds_were_narrowed_holds_no_further_than_they_go(
    box: Box, change: Changer
) -> None:
    """A drill was late after up to 180 days once; a restored box, or one that is brought up to date, has kept that."""
    with box.catalog.transaction() as tx:
        operator_settings.put(tx, "health.drill_late_days", 180, NOW)
        operator_settings.put(tx, "backup.keep_days", 1, NOW)
    with box.catalog.reading() as reading:
        assert settings.get(reading, "health.drill_late_days") == 8
        assert settings.get_several(reading, ["backup.keep_days"]) == {"backup.keep_days": 7}
        assert settings.get_section(reading, "health")["drill_late_days"] == 8
    assert health.gather(box, NOW).limits.drill_late_days == 8, "which is what the alarm goes by"
    change({"health.drill_late_days": 5})
    with box.catalog.reading() as reading:
        assert settings.get(reading, "health.drill_late_days") == 5


def test_the_line_of_support_is_called_where_the_firewall_lets_it_out(change: Changer) -> None:
    """At another port nothing would ever answer, and the page would say for ever that the session is open."""
    role = Path(__file__).parents[2] / "provisioning/roles/firewall/defaults/main.yml"
    ports = yaml.safe_load(role.read_text())["firewall_support_ports"]
    taken = []
    for port in range(1, 65536):
        with suppress(Refused):
            taken.append(SETTINGS["support.port"].kind.check(port))
    assert taken == ports
    with pytest.raises(NotAccepted) as refusal:
        change({"support.port": 2222})
    assert refusal.value.refusals["support.port"].hint == "use one of 22, 443"


def test_a_port_of_support_from_before_they_were_named_is_read_and_left_by_choosing_one(
    box: Box, change: Changer
) -> None:
    with box.catalog.transaction() as tx:
        operator_settings.put(tx, "support.port", 2222, NOW)
    with box.catalog.reading() as reading:
        assert settings.get(reading, "support.port") == 2222
        assert settings.get_section(reading, "support")["port"] == 2222
    change({"support.host": "support.example.ca"})
    change({"support.port": 443})
    with box.catalog.reading() as reading:
        assert settings.get(reading, "support.port") == 443


def test_an_unknown_key_is_refused_with_the_nearest_name(change: Changer) -> None:
    with pytest.raises(Unknown) as refusal:
        change({"clinic.nmae": "x"})
    assert refusal.value.hint == "did you mean clinic.name?"


def test_what_is_so_already_leaves_no_trace(box: Box, change: Changer) -> None:
    change({"clinic.name": "Émard"})
    assert change({"clinic.name": "Émard ", "mail.port": 587, "mail.password": "", "mail.user": None}) == ()
    assert len(_audited(box)) == 1


def test_history_and_audit_say_who_when_from_what_to_what(box: Box, change: Changer) -> None:
    change({"clinic.name": "A"})
    change({"clinic.name": "B"})
    with box.catalog.reading() as reading:
        latest, first = settings.history(reading, key="clinic.name")
        assert settings.history(reading, limit=1, before=latest.id) == [first]
        assert settings.revision(reading) == latest.id
    assert (latest.old, latest.new, latest.actor, latest.at_utc) == ("A", "B", "marie", NOW)
    assert (first.old, first.new) == (None, "A")
    rows = _audited(box)
    assert [(row["subject"], row["actor"]) for row in rows] == [("clinic.name", "marie")] * 2
    assert json.loads(rows[1]["details"]) == {"old": "A", "new": "B"}


def test_undoing_brings_the_earlier_value_back_and_is_a_change_itself(box: Box, change: Changer) -> None:
    change({"clinic.name": "A"})
    (done,) = change({"clinic.name": "B"})
    later = NOW + timedelta(minutes=1)
    with box.catalog.transaction() as tx:
        undone = settings.undo(tx, box.audit_key, done.id, actor="luc", now=later)
    assert (undone.old, undone.new, undone.actor, undone.undoes) == ("B", "A", "luc", done.id)
    with box.catalog.transaction() as tx:
        again = settings.undo(tx, box.audit_key, undone.id, actor="luc", now=later)
        assert settings.get(tx, "clinic.name") == "B"
    assert again.new == "B"
    assert json.loads(_audited(box)[-1]["details"])["undoes"] == undone.id


def test_only_the_latest_change_of_a_setting_is_undone(box: Box, change: Changer) -> None:
    (first,) = change({"clinic.name": "A"})
    change({"clinic.name": "B"})
    with box.catalog.transaction() as tx:
        with pytest.raises(Refused, match="again since"):
            settings.undo(tx, box.audit_key, first.id, actor="luc", now=NOW)
        with pytest.raises(Unknown):
            settings.undo(tx, box.audit_key, 999, actor="luc", now=NOW)


def test_undoing_never_leads_to_what_would_not_be_accepted(box: Box, change: Changer) -> None:
    change({"sessions.idle_minutes": 600})
    (shorter,) = change({"sessions.idle_minutes": 5})
    change({"sessions.absolute_hours": 2})  # 600 minutes would be longer than that
    with box.catalog.transaction() as tx, pytest.raises(NotAccepted):
        settings.undo(tx, box.audit_key, shorter.id, actor="luc", now=NOW)


def test_a_secret_is_sealed_and_nowhere_else(box: Box, change: Changer) -> None:
    change({"mail.password": SECRET})
    change({"mail.password": "another"})
    with box.catalog.reading() as reading:
        assert settings.secret(reading, box.root, "mail.password") == "another"
        assert settings.secret(reading, box.root, "mail.password") != ""
        assert "password" not in settings.get_section(reading, "mail")
        kept = json.dumps(operator_settings.all_values(reading))
        history = repr(settings.history(reading))
        with pytest.raises(ValueError, match="secret"):
            settings.get(reading, "mail.password")
    everything = kept + history + json.dumps(_audited(box))
    assert SECRET not in everything
    assert "another" not in everything


def test_a_secret_opens_only_for_its_own_key_and_root(box: Box, change: Changer) -> None:
    change({"mail.password": SECRET})
    with box.catalog.reading() as reading, pytest.raises(Corrupt):
        settings.secret(reading, RootKey(bytes(32)), "mail.password")
    with box.catalog.transaction() as tx, pytest.raises(ValueError, match="seal"):
        settings.change(tx, box.audit_key, {"mail.password": "x"}, actor="marie", now=NOW)


def test_a_secret_is_removed_but_its_change_is_not_undone(box: Box, change: Changer) -> None:
    change({"mail.password": SECRET})
    (removed,) = change({"mail.password": None})
    with box.catalog.transaction() as tx:
        assert settings.secret(tx, box.root, "mail.password") == ""
        assert not settings.is_set(tx, "mail.password")
        with pytest.raises(Refused, match="not kept"):
            settings.undo(tx, box.audit_key, removed.id, actor="luc", now=NOW)


def test_settings_do_not_change_what_the_box_keeps_for_itself(box: Box, change: Changer) -> None:
    from appliance.catalog import settings as own

    with box.catalog.transaction() as tx:
        own.put(tx, "clinic.name", "of the machine", NOW)
    change({"clinic.name": "Émard"})
    with box.catalog.reading() as reading:
        assert own.get(reading, "clinic.name") == "of the machine"
