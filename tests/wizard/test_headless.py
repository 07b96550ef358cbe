"""`appliance setup`: from a blank box to a study that came back from the bucket, and the same again changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.wizard import answers
from tests.replication import cloud as clouds
from tests.system.running import appliance
from tests.web.conftest import PASSWORD


def test_the_example_is_understood() -> None:
    found = answers.parse(answers.EXAMPLE)
    assert found.clinic is not None
    assert found.cloud is not None
    assert found.devices[0].ae_title == "PANO1"


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[clinc]\nname = 'x'", "no answer clinc", "clinic"),
        ("[network]\nhostname = 'x'", "no answer network.hostname", "network.host_name"),
        ("[network]\nhost_name = 3", "network.host_name is not a text", "--example"),
        ("[clinic]\nname = 'x'", "is missing", "--example"),
        ("network = 'x'", "network is not a section", "[network]"),
        ("[devices]\nae_title = 'x'", "devices is not a list", "[[devices]]"),
        ("[network", "not TOML", "line"),
        ("[owner]\npassword = 'hunter2'", "no answer owner.password", "password_file"),
    ],
)
def test_a_wrong_answer_is_refused_with_what_would_be_right(text: str, said: str, hint: str) -> None:
    with pytest.raises(Refused) as refused:
        answers.parse(text)
    assert said in refused.value.message
    assert hint in refused.value.hint
    assert "hunter2" not in str(refused.value)


@given(st.text())
def test_whatever_stands_in_the_file_is_understood_or_refused(text: str) -> None:
    try:
        answers.parse(text)
    except Refused as refused:
        assert refused.hint


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_blank_box_to_the_end_and_the_same_again_changes_nothing(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    def secret(name: str, text: str) -> None:
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text + "\n")

    with (
        clouds.cloud() as cloud,
        appliance(tmp_path / "box", free_port, start=("dicom", "courier"), workers=1) as box,
    ):
        secret("password", PASSWORD)
        secret("cloud-secret", "tests")
        secret("recovery", box.say("key", "show-recovery").strip())
        file = tmp_path / "answers.toml"
        file.write_text(
            '[owner]\nlogin = "marie"\nname = "Marie Tremblay"\npassword_file = "password"\n'
            '[clinic]\nname = "Clinique"\nprivacy_officer_name = "Luc"\nprivacy_officer_email = "luc@c.example"\n'
            '[network]\nhost_name = "clinicbox"\n'
            '[recovery]\nkey_file = "recovery"\n'
            f'[cloud]\nbucket = "{cloud.new_bucket()}"\nregion = "ca-central-1"\naccess_key_id = "tests"\n'
            f'secret_file = "cloud-secret"\nendpoint_url = "{cloud.url}"\ncanadian = true\n'
            '[[devices]]\nae_title = "PANO1"\naddress = "192.168.1.40"\n'
            "[trial]\nrun = true\n"
        )
        said = box.command("setup", file, "--json")
        assert said.code == 0, said.out + said.err
        outcomes = {row["step"]: row["outcome"] for row in json.loads(said.out)}
        assert set(outcomes.values()) == {"done"}, said.out
        assert box.studies()[0]["patient_name"] == "TEST^CLINICBOX"
        again = box.command("setup", file, "--json")
        assert again.code == 0
        assert {row["outcome"] for row in json.loads(again.out)} == {"kept"}, again.out
        assert len(box.studies()) == 1
        everything = said.out + again.out + box.say("audit", "export") + box.log()
        assert PASSWORD not in everything
        file.write_text(file.read_text().replace("ca-central-1", "us-east-1"))
        abroad = box.command("setup", file)
        assert abroad.code == 65
        assert "not in Canada" in abroad.out
