"""The version before, itself, on the index that this tree has made: what an update that does not prove itself comes to.

Its tree is taken out of the history of the check-out: the last release, or what stands for the one before the first
(`tests.catalog.test_reversible.FIRST`). So this is a campaign: a check-out may have no history. It runs with the libraries of now.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path

from sqlalchemy import text

from appliance.catalog import alerts, migrations, notices
from appliance.catalog import settings as kept_settings
from appliance.catalog.alerts import AlertState
from appliance.catalog.notices import NoticeState
from appliance.catalog.schema import REVISION
from appliance.health import looks
from appliance.updates import noting
from tests import synthetic
from tests.catalog.test_reversible import FIRST
from tests.system.dcmtk import storescu
from tests.system.running import CALLER, Appliance, appliance
from tests.test_other_versions import TOMORROW

ROOT = Path(__file__).parents[2]
SCHEMA = "appliance/catalog/schema.py"
RECEIVES = ("dicom", "courier")
PROVES_ITSELF = (*RECEIVES, "web")
BEARS_WORDS = "tests/test_other_versions.py"
"""What a version has that goes on with words of another one; what stands for the version before the first has it not."""


@dataclass(frozen=True)
class Outcome:
    """What ran on what."""

    earlier: str
    images: int

    def __str__(self) -> str:
        return (
            f"the software of {self.earlier} went on with revision {REVISION}: received, delivered, backed up, read every byte; "
            f"then this one had all {self.images} images"
        )


class Earlier(Appliance):
    """The same box under the software of another tree."""

    tree: Path

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PYTHONPATH": str(self.tree)}


def git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def version_before() -> str:
    """The last release in the history; without any, the last commit whose software knew no more than `FIRST`."""
    if tags := git("tag", "--merged", "HEAD^", "--sort=-version:refname", "v*").split():
        return tags[0]
    for commit in git("rev-list", "HEAD", "--", SCHEMA).split():
        if f'REVISION = "{FIRST}"' not in git("show", f"{commit}^:{SCHEMA}"):
            continue
        return git("rev-parse", "--short", f"{commit}^")
    raise SystemExit("this check-out has no history that goes back to the version before")


def laid_out(commit: str, folder: Path) -> Path:
    """The tree of `commit`, with the assets of this one: they are built, and not in the history."""
    folder.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=packed.stdout, check=True)
    build = "appliance/web/static/build"
    if (ROOT / build).exists():
        shutil.copytree(ROOT / build, folder / build)
    return folder


def fill_what_is_new(box: Appliance) -> None:
    """A row in the tables that the earlier software knows nothing of, so that they could be in its way."""
    with box.opened() as opened, opened.catalog.transaction() as tx:
        assert migrations.revision_of(tx) == REVISION
        tx.execute(
            text(
                "INSERT INTO tier_tags (study, destination, tier, deepest, changed_utc)"
                " SELECT s.id, d.id, 'hot', 'hot', s.last_received_utc FROM studies s, destinations d"
            )
        )
        tx.execute(text("INSERT INTO destroyed_images SELECT 'gone', id FROM study_keys"))
        tx.execute(text("INSERT INTO spared_images SELECT 'kept ' || id, id, 99 FROM study_keys"))


def leave_words(box: Appliance) -> int:
    """Words that no version knows, where `tests.test_other_versions` says that a box bears them: a notice's id, which waits to be told."""
    long_ago = datetime.now(UTC) - timedelta(minutes=30)
    with box.opened() as opened, opened.catalog.transaction() as tx:
        told = notices.add(
            tx, kind=TOMORROW, topic=TOMORROW, severity="critical", subject="", words="w", fix="f",
            state=NoticeState.EVENT, now=long_ago,
        )  # fmt: skip
        alerts.remember(tx, AlertState(TOMORROW, "", long_ago, None, None, None))
        kept_settings.put(
            tx, looks.KEPT, looks.as_kept(looks.Looked(long_ago, long_ago)) | {"came": TOMORROW}, long_ago
        )
        past = {"version": "9.0.0", "outcome": TOMORROW, "since_utc": long_ago.isoformat(), "came_utc": ""}
        kept_settings.put(tx, noting.KEPT, [past], long_ago)
    return told


def is_told_again(box: Appliance, notice: int) -> bool:
    """Whether whoever judges alarms has gone past it."""
    with box.opened() as opened, opened.catalog.reading() as conn:
        return notices.notice(conn, notice).escalated > 0


def run(
    folder: Path,
    ports: Callable[[], int],
    *,
    commit: str = "",
    report: Callable[[str], object] = lambda _: None,
) -> Outcome:
    """This software fills a box, the earlier one works on it, and this one again. Raises AssertionError where one cannot."""
    commit = commit or version_before()
    tree = laid_out(commit, folder / "earlier")
    films = []
    for number, each in enumerate(islice(synthetic.dental_set(1, scale=0.1), 9)):
        out = BytesIO()
        each.save_as(out, enforce_file_format=True)
        films.append(folder / f"{number}.dcm")
        films[-1].write_bytes(out.getvalue())
    usb = folder / "usb"
    usb.mkdir()
    with appliance(folder / "box", ports, start=RECEIVES) as now:
        now.say("destination", "add", "vault", "usb", "--path", usb)
        now.say("rule", "add", "--to", "usb")
        send(now, films[:3])
        now.wait_until_confirmed(3)
        now.stop()
        fill_what_is_new(now)
        bears_words = (tree / BEARS_WORDS).exists()
        left = leave_words(now) if bears_words else 0

        earlier = Earlier(now.folder, now.dicom_port, now.web_port, now.data)
        earlier.tree = tree
        where = earlier.command("--version").out.strip()
        seen = subprocess.run(
            ["python3", "-c", "import appliance; print(appliance.__file__)"],
            env=os.environ | earlier.environment,
            cwd=now.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert seen.stdout.startswith(str(tree)), "its own code runs"
        report(f"{commit} ({where}) starts on revision {REVISION}")
        try:
            for verb in PROVES_ITSELF:  # one after the other: a busy machine takes its time
                earlier.start(verb)
            send(earlier, films[3:6])
            now.wait_until_confirmed(6)
            assert earlier.get("/health/live")[0] == 200
            if bears_words:
                earlier.start("jobs")
                report("  it tells of what it doesn't know")
                deadline = time.monotonic() + 120
                while not is_told_again(now, left):
                    assert time.monotonic() < deadline, "its alarm is silent"
                    time.sleep(1)
            earlier.stop()
        finally:
            for process in earlier.processes.values():
                process.kill()
        for words in (
            ("backup", "now"),
            ("verify", "--all"),
            ("audit", "verify"),
            ("setting", "set", "clinic.name", "A clinic"),
            ("rule", "list"),
            ("studies",),
            ("status",),
        ):
            said = earlier.command(*words)
            report(f"  {' '.join(words)}: {said.out.strip().splitlines()[-1:] or said.err.strip()}")
            assert said.code == 0 or words == ("status",), f"{words}: {said.err}"

        now.start(*RECEIVES)
        send(now, films[6:])
        now.wait_until_confirmed(9)
        assert "damaged" not in now.say("verify", "--all").replace("0 damaged", "")
        now.say("audit", "verify")
        assert "A clinic" in now.say("setting", "list")
        images = sum(int(each["instances"]) for each in now.studies())
        assert images == 9
        with now.opened() as opened, opened.catalog.reading() as reading:
            assert reading.execute(text("SELECT count(*) FROM spared_images")).scalar(), "nothing was dropped"
    return Outcome(commit, images)


def send(box: Appliance, films: list[Path]) -> None:
    sent = storescu(box.dicom_port, calling=CALLER, files=films)
    assert sent.returncode == 0, sent.stderr
