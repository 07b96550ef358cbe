"""Configuration is validated once, and a wrong key is named together with the right one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from appliance.config import ENVIRONMENT, Config, load_config
from appliance.errors import OperatorNeeded


def toml(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "appliance.toml"
    path.write_text(text, "utf-8")
    return {"APPLIANCE_CONFIG": str(path)}


def test_without_wishes_the_defaults_of_the_contract_hold() -> None:
    config = load_config({})
    assert (config.dicom.port, config.dicom.tls_port, config.web.port) == (11112, 2762, 8080)
    assert (config.ae_title, config.data) == ("CLINICBOX", Path("var"))


def test_a_file_sets_every_kind_of_value(tmp_path: Path) -> None:
    told = toml(
        tmp_path, 'ae_title = " BOX "\ndata = "/x"\n[dicom]\nport = 104\n[store]\nlog_bytes = 8388608\n'
    )
    config = load_config(told)
    assert (config.ae_title, config.data, config.dicom.port, config.store.log_bytes) == (
        "BOX",
        Path("/x"),
        104,
        8 << 20,
    )


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    told = toml(tmp_path, "[web]\nport = 9000\n")
    assert load_config({**told, "APPLIANCE_WEB_PORT": "9001"}).web.port == 9001


def test_a_config_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config({}).log_level = "DEBUG"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[dicom]\nprot = 104\n", "did you mean dicom.port?"),
        ("ae_tittle = 'X'\n", "did you mean ae_title?"),
        ("[dicom]\nport = 'x'\n", "whole number"),
        ("[dicom]\nport = 70000\n", "1 to 65535"),
        ("[dicom]\nport = true\n", "whole number"),
        ("[dicom]\nworkers = 0\n", "the least is 1"),
        ("ae_title = 'SEVENTEEN LETTERS'\n", "1 to 16"),
        ("dicom = 3\n", "[dicom]"),
        ("log_level = 'LOUD'\n", "DEBUG"),
        ("data = ''\n", "folder"),
        ("data = '~nobody-of-that-name/box'\n", "home folder"),
        ("this is not toml", "not TOML"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_remedy(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(OperatorNeeded) as refusal:
        load_config(toml(tmp_path, text))
    assert says in str(refusal.value)
    assert "\n" not in refusal.value.hint


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"APPLIANCE_DICOM_PROT": "1"}, "did you mean APPLIANCE_DICOM_PORT?"),
        ({"APPLIANCE_DICOM_PORT": "abc"}, "APPLIANCE_DICOM_PORT"),
        ({"APPLIANCE_AE_TITLE": ""}, "APPLIANCE_AE_TITLE"),
        ({"APPLIANCE_CONFIG": "/nowhere/at.all"}, "does not exist"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(environ: dict[str, str], says: str) -> None:
    with pytest.raises(OperatorNeeded) as refusal:
        load_config(environ)
    assert says in str(refusal.value)


def test_every_variable_sets_a_field_that_exists() -> None:
    for keys in ENVIRONMENT.values():
        owner: object = Config()
        for key in keys:
            owner = getattr(owner, key)


def test_logs_are_text_or_json_and_nothing_else() -> None:
    assert load_config({}).log_format == "text"
    assert load_config({"APPLIANCE_LOG_FORMAT": "json"}).log_format == "json"
    with pytest.raises(OperatorNeeded) as raised:
        load_config({"APPLIANCE_LOG_FORMAT": "xml"})
    assert "text, json" in raised.value.hint
