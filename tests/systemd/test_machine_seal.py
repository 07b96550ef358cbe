"""The machine seal: made once, laid aside where it opens no more, and never lost while the root key lies under it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"


@dataclass
class Sealing:
    """The script that makes the seal, with a `systemd-creds` that opens what this machine's TPM2 has sealed, and what its own key has.

    A TPM2 that is `broken` seals nothing, and opens nothing."""

    folder: Path
    tpm: str = "first"
    cut_before: int = 0
    """Which of what it does to a folder or to the disk the power fails before; 0: it does not fail."""

    @property
    def seal(self) -> Path:
        return self.folder / "seal/machine-seal.cred"

    @property
    def aside(self) -> Path:
        return self.seal.with_name(f"{self.seal.name}.aside")

    @property
    def root(self) -> Path:
        return self.folder / "root.machine"

    def start(self) -> str:
        """As at a start of the machine; returns what the journal gets."""
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        creds = programs / "systemd-creds"
        creds.write_text(
            "#!/bin/sh\n"
            f"by={self.tpm}\n"
            'if [ "$3" = --with-key=host ]; then by=host; fi\n'
            'if [ "$1 $by" = "encrypt broken" ]; then exit 1; fi\n'
            'if [ "$1" = encrypt ]; then { echo "$by"; cat; } >"$5"; exit 0; fi\n'
            'made=$(head -n 1 "$3" | tr -d "\\000")\n'
            '[ "$made" = "$by" ] || [ "$made" = host ]\n'
        )
        creds.chmod(0o755)
        acts = self.folder / "acts"
        acts.write_text("")
        for name in ("mv", "rm", "sync"):
            (programs / name).write_text(
                f"#!/bin/sh\necho {name} >>{acts}\n"
                f"[ $(wc -l <{acts}) != {self.cut_before} ] || {{ kill -9 $PPID; exit 1; }}\n"
                f'exec /bin/{name} "$@"\n'
            )
            (programs / name).chmod(0o755)
        done = subprocess.run(
            [UNITS / "libexec/machine-seal", self.seal, self.root, "1"],
            env={"PATH": f"{programs}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (-9 if self.cut_before else 0), done.stderr
        return done.stderr

    def written_under_it(self) -> None:
        """The root key is sealed under the seal of now."""
        self.root.write_bytes(os.urandom(64))


@pytest.fixture
def sealing(tmp_path: Path) -> Sealing:
    made = Sealing(tmp_path)
    made.start()
    made.written_under_it()
    return made


def test_a_seal_that_opens_stays_as_it_is(sealing: Sealing) -> None:
    had = sealing.seal.read_bytes()
    assert had.startswith(b"first\n")
    assert len(had) > 32
    assert sealing.start() == ""
    assert (sealing.seal.read_bytes(), sealing.aside.exists()) == (had, False)


def test_a_seal_that_another_machine_made_is_laid_aside_and_never_lost(sealing: Sealing) -> None:
    had = sealing.seal.read_bytes()
    sealing.tpm = "second"
    assert "asks for the recovery key" in sealing.start()
    assert sealing.seal.read_bytes().startswith(b"second\n")
    assert sealing.aside.read_bytes() == had
    for tpm in ("second", "third", "fourth"):  # nobody has typed the key yet, and the machine changes again
        sealing.tpm = tpm
        sealing.start()
        assert sealing.seal.read_bytes().startswith(tpm.encode())
        assert sealing.aside.read_bytes() == had


def test_a_chip_that_was_late_at_one_start_opens_the_box_at_the_next(sealing: Sealing) -> None:
    had = sealing.seal.read_bytes()
    sealing.tpm = "none"
    sealing.start()
    sealing.tpm = "first"
    assert "opens again" in sealing.start()
    assert (sealing.seal.read_bytes(), sealing.aside.exists()) == (had, False)


def test_once_the_keys_lie_under_the_new_seal_the_old_one_never_comes_back(sealing: Sealing) -> None:
    sealing.tpm = "second"
    sealing.start()
    sealing.written_under_it()  # somebody has typed the recovery key
    had = sealing.seal.read_bytes()
    assert sealing.start() == ""
    assert sealing.seal.read_bytes() == had
    sealing.tpm = "third"
    sealing.start()
    assert sealing.aside.read_bytes() == had, "the one that the keys lie under is the one to keep"


def test_whoever_binds_the_seal_to_a_chip_that_came_later_can_go_back_until_it_is_done(
    sealing: Sealing,
) -> None:
    """As `provisioning/README.md` says it."""
    text = (ROOT / "provisioning/README.md").read_text("utf-8")
    block = text[text.index("mv /var/lib/machine-seal/") :].partition("```")[0]
    steps = [line.partition("#")[0].split() for line in block.splitlines() if line.strip()]
    assert [step[:3] for step in steps] == [
        ["mv", "/var/lib/machine-seal/machine-seal.cred", "/var/lib/machine-seal/machine-seal.cred.before"],
        ["appliance", "key", "reseal"],
        ["systemctl", "restart", "appliance.target"],
        ["rm", "/var/lib/machine-seal/machine-seal.cred.before"],
        ["appliance", "key", "rotate-root"],
    ]
    had, before = sealing.seal.read_bytes(), sealing.folder / "seal" / Path(steps[0][2]).name
    sealing.seal.rename(before)
    sealing.start()
    assert sealing.seal.read_bytes() != had
    assert before.read_bytes() == had, "what opens the keys is there until they lie under the new one"


def test_a_chip_that_answers_with_an_error_leaves_a_box_that_asks_and_comes_back_at_the_first_start_with_a_good_one(
    sealing: Sealing,
) -> None:
    had = sealing.seal.read_bytes()
    sealing.tpm = "broken"
    for _ in range(2):
        sealing.start()
        assert sealing.seal.read_bytes().startswith(b"host\n")
        assert sealing.aside.read_bytes() == had
    sealing.tpm = "first"
    assert "opens again" in sealing.start()
    assert (sealing.seal.read_bytes(), sealing.aside.exists()) == (had, False)


def test_a_start_that_was_cut_before_the_new_seal_was_made_brings_the_old_one_back(sealing: Sealing) -> None:
    had = sealing.seal.read_bytes()
    sealing.tpm = "second"
    sealing.start()
    sealing.seal.unlink()  # the power failed between the two
    sealing.tpm = "first"
    assert "opens again" in sealing.start()
    assert (sealing.seal.read_bytes(), sealing.aside.exists()) == (had, False)


ACTS = ("rm", "sync", "sync", "mv", "sync", "mv", "sync")
"""What a start does that lays a seal aside and makes another."""


@pytest.mark.parametrize("cut_before", range(1, len(ACTS) + 1))
def test_a_late_chip_and_a_cut_cost_no_seal_where_another_was_laid_aside_before(
    cut_before: int, sealing: Sealing
) -> None:
    sealing.tpm = "second"  # another mainboard once,
    sealing.start()
    sealing.written_under_it()  # and somebody has typed the recovery key
    had = sealing.seal.read_bytes()
    assert sealing.aside.exists()
    sealing.tpm, sealing.cut_before = "late", cut_before
    sealing.start()
    sealing.cut_before = 0
    sealing.start()
    sealing.tpm = "second"
    sealing.start()
    assert sealing.seal.read_bytes() == had


def test_what_a_start_does_is_what_can_be_cut(sealing: Sealing) -> None:
    sealing.tpm = "second"
    sealing.start()
    assert tuple((sealing.folder / "acts").read_text().split()) == ACTS
