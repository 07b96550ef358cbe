"""A NAS by the command line, by SFTP and by SMB: added, its key compared, a backup laid there, and a blank box restored from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.box import open_box
from appliance.catalog import destinations
from appliance.config import load_config
from tests.cli.conftest import Outcome, Say
from tests.replication.file_servers import PASSWORD, FileServer, openssh, private_key, proftpd
from tests.replication.shares import PASSWORD as SHARE_PASSWORD
from tests.replication.shares import SHARE, samba


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[FileServer]:
    with proftpd(tmp_path / "nas") as server:
        yield server


def where(server: FileServer) -> list[object]:
    return [
        *("--address", "127.0.0.1", "--port", server.port, "--user", server.user),
        *("--folder", server.folder),
    ]


def test_a_password_goes_nowhere_before_the_key_was_compared(
    say: Say, nas: FileServer, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = say("destination", "add", "sftp", "nas", *where(nas), typed=f"{PASSWORD}\n")
    assert added.code == 0, added.err
    shown = re.search(r"SHA256:\S+[^.\s]", added.out)
    assert shown is not None
    untrusted = say("destination", "test", "nas")
    assert (untrusted.code, "nobody has compared" in untrusted.err) == (78, True)
    wrong = say("destination", "trust", "nas", "--fingerprint", "SHA256:AAAA")
    assert (wrong.code, "not the one that was typed" in wrong.err) == (65, True)
    assert say("destination", "trust", "nas", "--fingerprint", shown[0]).code == 0
    assert say("destination", "test", "nas").code == 0
    assert "destination:trust" in [each["action"] for each in say("audit", "export").rows]
    assert PASSWORD not in say("destination", "list", "--json").out

    assert say("import", *films).code == 0
    made = say("backup", "now", "--to", "nas")
    assert made.code == 0, made.err
    assert [row["archive"] for row in say("backup", "list", "--json").rows] == ["nas"]
    paper = tmp_path / "paper.txt"
    paper.write_text(say("key", "show-recovery").out, "ascii")
    paper.chmod(0o600)
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))
    asked = say("restore", "sftp", *where(nas), "--recovery-key-file", paper, typed=f"{PASSWORD}\n")
    assert (asked.code, shown[0] in asked.err) == (65, True)
    assert not (tmp_path / "blank").exists()
    restored = say(
        *("restore", "sftp", *where(nas), "--fingerprint", shown[0], "--recovery-key-file", paper),
        typed=f"{PASSWORD}\n",
    )
    assert restored.code == 0, restored.err
    assert len(say("studies", "--json").rows) == 3


def test_the_box_makes_its_own_key_and_shows_the_public_half(say: Say, tmp_path: Path) -> None:
    with openssh(tmp_path / "nas") as server:
        shown = server.trusted().options["host_key"]
        added = say(
            *("destination", "add", "sftp", "nas", *where(server), "--with-key"),
            *("--fingerprint", str(shown).split()[1]),
        )
        assert added.code == 0, added.err
        (public,) = [line for line in added.out.splitlines() if line.startswith("ssh-ed25519 ")]
        refused = say("destination", "test", "nas")
        assert (refused.code, "does not let" in refused.err) == (78, True)
        (tmp_path / "nas" / "let_in").write_text(public)
        assert say("destination", "test", "nas").code == 0
        again = say("destination", "secret", "nas")
        (another,) = [line for line in again.out.splitlines() if line.startswith("ssh-ed25519 ")]
        assert another != public
        assert say("destination", "test", "nas").code == 78
        assert "PRIVATE" not in say("destination", "list", "--json").out


def test_a_key_that_changed_is_trusted_by_its_new_fingerprint_only(say: Say, tmp_path: Path) -> None:
    with openssh(tmp_path / "nas") as server:
        shown = str(server.trusted().options["host_key"])
        added = say(
            *("destination", "add", "sftp", "nas", *where(server), "--with-key", "--fingerprint", shown)
        )
        let_in = next(line for line in added.out.splitlines() if line.startswith("ssh-ed25519 "))
    with openssh(tmp_path / "nas", host_key=private_key()[0], port=server.port) as other:
        (tmp_path / "nas" / "let_in").write_text(let_in)
        alarm = say("destination", "test", "nas")
        assert (alarm.code, "has changed" in alarm.err) == (78, True)
        assert say("destination", "trust", "nas", "--fingerprint", shown).code == 65
        new = str(other.trusted().options["host_key"])
        assert say("destination", "trust", "nas", "--fingerprint", new).code == 0
        assert say("destination", "test", "nas").code == 0


def test_the_password_is_asked_for_again_once_another_key_is_trusted(say: Say, nas: FileServer) -> None:
    shown = str(nas.trusted().options["host_key"])
    added = say(
        "destination", "add", "sftp", "nas", *where(nas), "--fingerprint", shown, typed=f"{PASSWORD}\n"
    )
    assert added.code == 0, added.err
    with closing(open_box(load_config(os.environ))) as box, box.catalog.transaction() as tx:
        known = destinations.destination(tx, "nas")
        assert known is not None
        before = f"ssh-ed25519 SHA256:{'x' * 43}"
        destinations.change(tx, "nas", {**known.options, "host_key": before})
    trusted = say("destination", "trust", "nas", "--fingerprint", shown)
    assert (trusted.code, "appliance destination secret nas" in trusted.out) == (0, True)
    (row,) = say("destination", "list", "--json").rows
    assert "paused" in str(row)
    assert say("destination", "test", "nas").code == 78
    assert say("destination", "secret", "nas", typed=f"{PASSWORD}\n").code == 0
    assert say("destination", "test", "nas").code == 0


def test_a_box_that_came_in_by_its_key_is_restored_by_another(
    say: Say, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openssh(tmp_path / "nas") as server:
        shown = str(server.trusted().options["host_key"])
        let_in = tmp_path / "nas" / "let_in"
        added = say(
            *("destination", "add", "sftp", "nas", *where(server), "--with-key", "--fingerprint", shown)
        )
        (public,) = [line for line in added.out.splitlines() if line.startswith("ssh-ed25519 ")]
        let_in.write_text(let_in.read_text().rstrip() + f"\n{public}\n")
        assert say("import", *films).code == 0
        made = say("backup", "now", "--to", "nas")
        assert made.code == 0, made.err
        paper, key = tmp_path / "paper.txt", tmp_path / "nas-key"
        for file in (paper, key):
            file.touch(mode=0o600)
        paper.write_text(say("key", "show-recovery").out, "ascii")
        monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))

        def restore(private: str) -> Outcome:
            key.write_text(private, "ascii")
            return say(
                *("restore", "sftp", *where(server), "--fingerprint", shown, "--key-file", key),
                *("--recovery-key-file", paper),
            )

        other = restore("no key at all\n")
        assert (other.code, "no Ed25519 key" in other.err, "no key at all" in other.err) == (65, True, False)
        closed = restore(private_key()[0])
        assert (closed.code, "does not let" in closed.err) == (78, True)
        restored = restore(server.secret)
        assert restored.code == 0, restored.err
        assert len(say("studies", "--json").rows) == 3


def test_a_share_is_added_backed_up_to_and_restored_from(
    say: Say, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with samba(tmp_path / "nas") as server:
        place = [
            *("--address", "127.0.0.1", "--port", server.port, "--user", server.user),
            *("--share", SHARE, "--folder", "/"),
        ]
        wrong = say("destination", "add", "smb", "share", *place, typed="another\n")
        assert (wrong.code, "does not let" in wrong.err) == (78, True)
        assert say("destination", "list", "--json").rows == []
        added = say("destination", "add", "smb", "share", *place, typed=f"{SHARE_PASSWORD}\n")
        assert added.code == 0, added.err
        tested = say("destination", "test", "share")
        assert (tested.code, f"\\\\127.0.0.1\\{SHARE}" in tested.out) == (0, True)
        (row,) = say("destination", "list", "--json").rows
        assert row["options"]["server_name"] == "testnas"
        assert SHARE_PASSWORD not in str(row) + say("audit", "export").out

        assert say("import", *films).code == 0
        made = say("backup", "now", "--to", "share")
        assert made.code == 0, made.err
        paper = tmp_path / "paper.txt"
        paper.write_text(say("key", "show-recovery").out, "ascii")
        paper.chmod(0o600)
        with monkeypatch.context() as blank:
            blank.setenv("APPLIANCE_DATA", str(tmp_path / "blank"))
            restored = say(
                *("restore", "smb", *place, "--recovery-key-file", paper), typed=f"{SHARE_PASSWORD}\n"
            )
            assert restored.code == 0, restored.err
            assert len(say("studies", "--json").rows) == 3
    with samba(tmp_path / "other", name="OTHERNAS", port=server.port):
        alarm = say("destination", "test", "share")
        assert (alarm.code, "another server answers" in alarm.err) == (78, True)
        assert say("destination", "secret", "share", typed=f"{SHARE_PASSWORD}\n").code == 0
        assert say("destination", "test", "share").code == 0


def test_bad_input_gets_one_line(say: Say, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    assert say("destination", "add", "vault", "usb", "--path", tmp_path / "usb").code == 0
    none = say("destination", "trust", "usb", "--fingerprint", "SHA256:x")
    assert (none.code, "has no key" in none.err) == (65, True)
    with openssh(tmp_path / "nas") as server:
        place = where(server)
    gone = say("destination", "add", "sftp", "nas", *place, typed="x\n")
    assert (gone.code, "does not answer" in gone.err) == (75, True)
    assert [row["name"] for row in say("destination", "list", "--json").rows] == ["usb"]
