"""Whatever is typed wrong gets one line with its remedy and the right exit code; a stranger is seen, admitted, received."""

from __future__ import annotations

import argparse
import io
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.cli.command import main, parser
from tests import synthetic
from tests.system.dcmtk import storescu
from tests.system.running import CALLER, Appliance, Said, appliance, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USAGE, DATA, NO_INPUT, TEMPORARY, CONFIGURATION = 64, 65, 66, 75, 78

ONE_LINE = re.compile(r"appliance: [^\n]{10,} — [^\n]{5,}\n")
"""An error in our words: cause and remedy."""

S3 = "destination add s3 cloud --bucket clinic --access-key-id K"
WRONG = [
    ("", "", USAGE),
    ("statsu", "", USAGE),
    ("status --jsno", "", USAGE),
    ("screen --folow-me", "", USAGE),
    ("studies --limit 0", "", USAGE),
    ("studies --limit many", "", USAGE),
    ("export 1.2.3.4 --to out", "", NO_INPUT),
    ("export", "", USAGE),
    ("import nowhere.dcm", "", NO_INPUT),
    ("import", "", USAGE),
    ("deliveries --state LATE", "", USAGE),
    ("deliveries list --destination nowhere", "", NO_INPUT),
    ("deliveries show 99", "", NO_INPUT),
    ("deliveries show first", "", USAGE),
    ("deliveries retry 99", "", NO_INPUT),
    ("deliveries pause", "", USAGE),
    ("deliveries resume 99", "", NO_INPUT),
    ("deliveries cancel 99", "", NO_INPUT),
    ("destruction list everything", "", USAGE),
    ("destruction show D-1999-0001", "", NO_INPUT),
    ("destruction certificate D-1999-0001", "", DATA),
    ("destruction verify nowhere.json", "", CONFIGURATION),
    ("device add --ae-title X-RAY --address xray.clinic.lan", "", DATA),
    ("device add --ae-title A_TITLE_OF_MORE_THAN_16 --address 10.0.0.7", "", DATA),
    ("device add --ae-title X-RAY", "", USAGE),
    ("device list everything", "", USAGE),
    ("device remove NOBODY", "", NO_INPUT),
    ("device echo NOBODY", "", NO_INPUT),
    (f"device echo {CALLER}", "", CONFIGURATION),
    (f"device echo {CALLER} --port 1", "", TEMPORARY),
    (f"{S3} --region us-east-1", "secret\n", DATA),
    (f"{S3} --region ca-central-1 --endpoint-url https://s3.example.com", "secret\n", DATA),
    (f"{S3} --region ca-central-1", "", DATA),
    (f"{S3} --region ca-central-1 --secret-access-key S", "", USAGE),
    (f"{S3} --region ca-central-1 --secret-file nowhere", "", CONFIGURATION),
    ("destination add dicom pacs --ae-title PACS --address 10.0.0.9 --port 99999", "", USAGE),
    ("destination add folder there", "", USAGE),
    ("destination add folder there --path appliance.toml", "", CONFIGURATION),
    ("destination list all", "", USAGE),
    ("destination test nowhere", "", NO_INPUT),
    ("destination policy nowhere", "", NO_INPUT),
    ("destination pause nowhere", "", NO_INPUT),
    ("destination resume nowhere", "", NO_INPUT),
    ("destination remove nowhere", "", NO_INPUT),
    ("rule add --to nowhere", "", NO_INPUT),
    ("rule list all", "", USAGE),
    ("retention simulate --at tomorrow", "", USAGE),
    ("retention rules all", "", USAGE),
    ("retention set medical last-entry 9 --reason none", "", DATA),
    ("retention set medical never 20 --reason none", "", USAGE),
    ("retention unset medical last-entry --reason none", "", DATA),
    ("retention history all", "", USAGE),
    ("retention requests all", "", USAGE),
    ("retention trust-clock now", "", USAGE),
    ("retention look-again now", "", USAGE),
    ("retention visit --patient nobody --date tomorrow", "", USAGE),
    ("retention visit --patient nobody --date 2026-03-01", "", NO_INPUT),
    ("retention visits --patient nobody", "", NO_INPUT),
    ("retention withdraw-visit 999 --reason none", "", NO_INPUT),
    ("hold add 1.2.3.4 --reason claim", "", NO_INPUT),
    ("hold add 1.2.3.4", "", USAGE),
    ("hold list every", "", USAGE),
    ("hold release 99 --reason over", "", NO_INPUT),
    ("plan --language xx", "", USAGE),
    ("plan --pdf nowhere/at-all/plan.pdf", "", CONFIGURATION),
    ("disk all", "", USAGE),
    ("guard show all", "", USAGE),
    ("guard freeze", "", USAGE),
    ("guard release --reason over", "", DATA),
    ("tiers list all", "", USAGE),
    ("tiers plan now", "", USAGE),
    ("tiers costs now", "", USAGE),
    ("tiers move now", "", USAGE),
    ("tiers evict", "", DATA),
    ("tiers return 1.2.3.4", "", NO_INPUT),
    ("tiers return", "", USAGE),
    ("rule remove 99", "", NO_INPUT),
    ("user invite m --name Marie --role owner", "", DATA),
    ("user list all", "", USAGE),
    ("user reset nobody", "", NO_INPUT),
    ("key show-recovery --again", "", USAGE),
    ("key check-recovery", "7HBXG-Y1D77\n", DATA),
    ("key rotate now", "", USAGE),
    ("key rotate-root", "7HBXG-Y1D77\n", DATA),
    ("key rotate-root --now", "", USAGE),
    ("key reseal", "7HBXG-Y1D77\n", DATA),
    ("key reseal --recovery-key-file nowhere", "", CONFIGURATION),
    ("verify everything", "", USAGE),
    ("audit verify --al", "", USAGE),
    ("audit export --cvs", "", USAGE),
    ("run --port 4", "", USAGE),
    ("dicom --port 4", "", USAGE),
    ("courier now", "", USAGE),
    ("jobs now", "", USAGE),
    ("web now", "", USAGE),
    ("setup --jsno", "", USAGE),
    ("support open --reason r --hours 5", "", USAGE),
    ("support open --reason r", "", CONFIGURATION),
    ("support close", "", DATA),
    ("support ticket", "", USAGE),
    ("support ticket --reason r", "", CONFIGURATION),
    ("support sessions --jsno", "", USAGE),
    ("support recording 99", "", NO_INPUT),
    ("support keys all", "", USAGE),
    ("support line --desk nowhere", "", TEMPORARY),
    ("support counter --desk nowhere", "", 77),
    ("support file", "", USAGE),
    ("heartbeat show --jsno", "", USAGE),
    ("heartbeat status --jsno", "", USAGE),
    ("heartbeat wanted now", "", USAGE),
    ("heartbeat agree", "", CONFIGURATION),
    ("heartbeat withdraw now", "", USAGE),
    ("heartbeat send", "", CONFIGURATION),
    ("update status --jsno", "", USAGE),
    ("update history --jsno", "", USAGE),
    ("update restart", "", 65),
    ("pin status --jsno", "", USAGE),
    ("pin choose", "", 65),
    ("pin choose", "abc\n482709\n", 65),
    ("pin remove", "", 65),
    ("pin show-key", "", 65),
    ("pin hide-key now", "", USAGE),
    ("update may-restart --put-off -1", "", USAGE),
    ("support file --to /nowhere/at/all", "", CONFIGURATION),
    ("destination add vault --jsno", "", USAGE),
    ("destination secret --jsno", "", USAGE),
    ("destination add sftp --jsno", "", USAGE),
    ("destination trust --jsno", "", USAGE),
    ("restore sftp --jsno", "", USAGE),
    ("destination add smb --jsno", "", USAGE),
    ("restore smb --jsno", "", USAGE),
    ("user show --jsno", "", USAGE),
    ("user invite --jsno", "", USAGE),
    ("user change --jsno", "", USAGE),
    ("user deactivate --jsno", "", USAGE),
    ("user reactivate --jsno", "", USAGE),
    ("user end-sessions --jsno", "", USAGE),
    ("user remove-second-factor --jsno", "", USAGE),
    ("user sessions --jsno", "", USAGE),
    ("grant add --jsno", "", USAGE),
    ("grant add nobody 1.2.3 --days 400", "", USAGE),
    ("grant list --login nobody", "", NO_INPUT),
    ("grant remove 99", "", NO_INPUT),
    ("token add --jsno", "", USAGE),
    ("token list --jsno", "", USAGE),
    ("token remove --jsno", "", USAGE),
    ("setting list --jsno", "", USAGE),
    ("setting get --jsno", "", USAGE),
    ("setting set --jsno", "", USAGE),
    ("setting reset --jsno", "", USAGE),
    ("setting history --jsno", "", USAGE),
    ("setting undo --jsno", "", USAGE),
    ("setting export --jsno", "", USAGE),
    ("setting import --jsno", "", USAGE),
    ("webhook list --jsno", "", USAGE),
    ("webhook add --jsno", "", USAGE),
    ("webhook remove --jsno", "", USAGE),
    ("webhook test --jsno", "", USAGE),
    ("notify list --jsno", "", USAGE),
    ("notify messages --jsno", "", USAGE),
    ("notify test --jsno", "", USAGE),
    ("backup now --jsno", "", USAGE),
    ("backup list --jsno", "", USAGE),
    ("backup drill --jsno", "", USAGE),
    ("restore s3 --jsno", "", USAGE),
    ("restore folder --jsno", "", USAGE),
    ("audit report --jsno", "", USAGE),
    ("backup now", "", CONFIGURATION),
    ("restore folder --path nowhere", "", TEMPORARY),
    ("restore s3 --bucket clinic --region us-east-1", "7HBXG-Y1D77\n", DATA),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    def ports() -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return int(probe.getsockname()[1])

    with appliance(tmp_path_factory.mktemp("command-line") / "box", ports) as running:
        yield running


def assert_one_line(err: str) -> None:
    assert ONE_LINE.fullmatch(err), err


def test_every_wrong_command_line_gets_one_line_and_its_exit_code(
    box: Appliance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of each verb in a process of its own, as it is typed; the others here, which takes a tenth of the time."""
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(box.folder)
    typed_before = set()
    came_to, not_one_line = {}, {}
    for words, typed, _ in WRONG:
        verb, *_ = words.split() or [""]
        if verb in typed_before:
            monkeypatch.setattr("sys.stdin", io.StringIO(typed))
            said = Said(main(words.split()), *capsys.readouterr())
        else:
            said = box.command(*words.split(), typed=typed)
            typed_before.add(verb)
        came_to[words, typed] = said.code
        if said.out or not ONE_LINE.fullmatch(said.err):
            not_one_line[words] = said
    assert not_one_line == {}
    assert came_to == {(words, typed): code for words, typed, code in WRONG}
    assert box.ask("destination", "list") == []
    assert box.ask("user", "list") == []
    assert [each["ae_title"] for each in box.ask("device", "list")] == [CALLER]


def test_no_verb_is_left_out() -> None:
    tried = {tuple(words.split()) for words, *_ in WRONG}
    for verb in _verbs(parser()):
        assert any(words[: len(verb)] == verb for words in tried), " ".join(verb)


def _verbs(of: argparse.ArgumentParser, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb that does something, as it is typed."""
    below = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for name, verb in action.choices.items():
            yield from _verbs(verb, (*before, name))
    if not below:
        yield before


@pytest.mark.parametrize("verb", ["run", "dicom", "courier", "jobs", "web"])
def test_a_process_with_a_wrong_setting_says_so_and_ends(box: Appliance, verb: str) -> None:
    said = box.command(verb, APPLIANCE_DATA="/proc/nowhere")
    assert_one_line(said.err)
    assert said.code == CONFIGURATION


@pytest.mark.parametrize("verb", ["dicom", "web"])
def test_a_port_that_is_taken_is_said_with_its_remedy(box: Appliance, verb: str) -> None:
    port = box.dicom_port if verb == "dicom" else box.web_port
    with socket.create_server(("127.0.0.1", port)):
        said = box.command(verb)
    assert said.code == CONFIGURATION
    assert_one_line(said.err)
    assert str(port) in said.err
    assert f"APPLIANCE_{verb.upper()}_PORT" in said.err


def test_a_stranger_is_refused_seen_at_the_door_admitted_and_received(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    films = synthetic.write(iter([synthetic.panoramic(1, scale=0.1)]), tmp_path / "films")
    with appliance(tmp_path / "box", free_port, start=["dicom"]) as box:
        refused = storescu(box.dicom_port, calling="STRANGER", files=films)
        assert refused.returncode != 0
        assert "Calling AE Title Not Recognized" in refused.stderr
        wait_for(lambda: len(box.ask("device", "list")) == 2, "the stranger was seen at the door")
        seen = box.ask("device", "list")[1]
        assert (seen["ae_title"], seen["address"]) == ("STRANGER", "127.0.0.1")
        assert seen["state"].startswith("at the door")
        assert "door:knock" in box.say("audit", "export")

        box.say("device", "add", "--ae-title", "STRANGER", "--address", seen["address"], "--name", "Pano")
        wait_for(
            lambda: storescu(box.dicom_port, calling="STRANGER", files=films).returncode == 0, "it may send"
        )
        box.wait_for_instances(1)
        assert {each["state"] for each in box.ask("device", "list")} == {"admitted"}

        box.say("device", "remove", "STRANGER")
        wait_for(
            lambda: storescu(box.dicom_port, calling="STRANGER", files=films).returncode != 0,
            "it may no more",
        )
