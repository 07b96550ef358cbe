"""A configuration goes from one box to another whole, without secrets, and is never half imported."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import audit, configuration, settings
from appliance.box import Box
from appliance.catalog import destinations, devices, rules
from appliance.errors import ApplianceError, Refused
from appliance.model import DestinationSettings, Device, Rule, ae_title
from tests.boxes import box_in

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box that is set up."""
    with box_in(tmp_path / "first") as opened:
        with opened.catalog.transaction() as tx:
            settings.change(
                tx,
                opened.audit_key,
                {"clinic.name": "Émard", "mail.port": 25, "mail.password": SECRET},
                actor="marie",
                now=NOW,
                root=opened.root,
            )
            devices.add_device(tx, Device(ae_title("PANO1"), "192.168.1.40", "Room 2", 104), NOW)
            options: dict[str, str | int | bool] = {
                "bucket": "clinic",
                "region": "ca-central-1",
                "access_key_id": "AK",
            }
            made = destinations.add(tx, DestinationSettings("cloud", "s3", "ciphertext", options, SECRET))
            rules.add_rule(tx, Rule(made, "cloud", "ciphertext", ae_title("PANO1"), "PX", 5))
        yield opened


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "second") as opened:
        yield opened


def _export(box: Box) -> dict[str, Any]:
    with box.catalog.reading() as reading:
        return configuration.read(configuration.written(configuration.export(reading)))


def _apply(box: Box, document: dict[str, Any]) -> configuration.Plan:
    with box.catalog.transaction() as tx:
        return configuration.apply(tx, box, document, actor="marie", now=NOW)


def test_an_export_holds_everything_but_secrets(box: Box) -> None:
    document = _export(box)
    assert SECRET not in json.dumps(document)
    assert document["secrets"] == ["mail.password", "destination cloud"]
    assert set(document["settings"]) == {key for key, each in settings.SETTINGS.items() if not each.is_secret}
    assert document["rules"] == [{"destination": "cloud", "device": "PANO1", "modality": "PX", "priority": 5}]


def test_another_box_becomes_alike_and_what_needs_its_secret_waits_for_it(box: Box, blank: Box) -> None:
    document = _export(box)
    with blank.catalog.reading() as reading:
        planned = configuration.plan(reading, blank, document)
    assert _apply(blank, document) == planned
    assert [(each.kind, each.subject) for each in planned.differences] == [
        ("setting", "clinic.name"),
        ("setting", "mail.port"),
        ("device", "PANO1@192.168.1.40"),
        ("destination", "cloud"),
        ("rule", "cloud"),
    ]
    assert planned.secrets == ("destination cloud", "mail.password")
    with blank.catalog.reading() as reading:
        cloud = destinations.destination(reading, "cloud")
        actions = [row["action"] for row in audit.export(reading)]
    assert cloud is not None
    assert cloud.paused
    assert actions == ["setting:change"] * 2 + [
        "device:add",
        "destination:add",
        "rule:add",
        "configuration:import",
    ]
    again = _export(blank)
    again["destinations"][0]["paused"] = False  # it waits for its secret
    again["secrets"] = document["secrets"]
    assert again == document


def test_importing_what_is_so_already_changes_nothing(box: Box) -> None:
    assert _apply(box, _export(box)).differences == ()
    with box.catalog.reading() as reading:
        cloud = destinations.destination(reading, "cloud")
    assert cloud is not None
    assert cloud.secret == SECRET
    assert not cloud.paused


def test_what_the_document_does_not_mention_stays(box: Box) -> None:
    _apply(box, {configuration.MARK: 1, "settings": {"clinic.name": "B"}})
    document = _export(box)
    assert document["settings"]["mail.port"] == 25
    assert len(document["devices"]) == len(document["destinations"]) == 1


def test_another_access_key_never_meets_the_old_secret(box: Box) -> None:
    document = _export(box)
    document["destinations"][0]["options"]["access_key_id"] = "OTHER"
    assert _apply(box, document).secrets == ("destination cloud",)
    with box.catalog.reading() as reading:
        cloud = destinations.destination(reading, "cloud")
    assert cloud is not None
    assert cloud.secret == ""
    assert cloud.paused


@pytest.mark.parametrize(
    ("edit", "hint"),
    [
        (lambda it: it["settings"].update({"clinic.nmae": "x"}), "clinic.name"),
        (lambda it: it.update({"device": []}), "devices"),
        (lambda it: it["devices"][0].update({"adress": "1.2.3.4"}), "address"),
        (lambda it: it["destinations"][0]["options"].update({"buckte": "x"}), "bucket"),
        (lambda it: it["destinations"][0]["options"].update({"region": "us-east-1"}), ""),
        (lambda it: it["destinations"][0].update({"kind": "ftp"}), "s3"),
        (lambda it: it["settings"].update({"mail.password": "x"}), "take it out"),
        (lambda it: it["settings"].update({"mail.port": 0}), "65535"),
        (lambda it: it["rules"][0].update({"destination": "elsewhere"}), "destination"),
        (lambda it: it["rules"][0].update({"modality": "p x;"}), "PX"),
        (lambda it: it["devices"][0].update({"port": True}), "65535"),
        (lambda it: it.update({"rules": {}}), "export"),
    ],
)
def test_what_is_wrong_is_refused_whole_with_a_remedy(blank: Box, box: Box, edit: Any, hint: str) -> None:
    document = _export(box)
    edit(document)
    before = _export(blank)
    with pytest.raises(ApplianceError) as refusal:
        _apply(blank, document)
    assert hint in refusal.value.hint
    assert refusal.value.hint
    assert _export(blank) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"appliance_configuration": 2}', "[" * 5000, "x" * 50_000])
def test_another_file_is_no_configuration(text: str) -> None:
    with pytest.raises(Refused):
        configuration.read(text)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "kind", "options", "ae_title", "address", "port", "path", "s3"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    document=st.dictionaries(
        st.sampled_from(["settings", "devices", "destinations", "rules", "secrets"]), ANYTHING, max_size=5
    )
)
def test_no_document_breaks_the_import(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    box = _shared(tmp_path_factory)
    with box.catalog.reading() as reading:
        try:
            configuration.plan(reading, box, {configuration.MARK: 1, **document})
        except ApplianceError as error:
            assert error.hint


_KEPT: list[Box] = []


def _shared(factory: pytest.TempPathFactory) -> Box:
    """One box for all examples; opening one takes longer than an example."""
    if not _KEPT:
        from appliance.box import open_box
        from tests.boxes import config_in

        _KEPT.append(open_box(config_in(factory.mktemp("any") / "data")))
    return _KEPT[0]


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    yield
    while _KEPT:
        _KEPT.pop().close()
