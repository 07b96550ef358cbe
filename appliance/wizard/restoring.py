"""Restoring a box instead of setting up a new one, in the browser: from where, the paper, what is there, and how far it is.

`appliance.backup.restoring` is the engine. The restored box is prepared beside the blank one whose console shows this, and
takes its place at one restart of all processes (`appliance.store.succession`).

Who may: whoever has typed the claim code that the box shows on its own screen, as for the claim, with the same five tries. The
code is not used up by it, and ends with the blank box. Nothing that opens an archive or a box is written down: the access
key's secret and the recovery key stay in this process's memory, so that after a restart of the console both are typed
again, and what was fetched by then is still there.

====  =======  =======================================================================
run   part     is done when
====  =======  =======================================================================
LOOK  reach    the bucket, the server or the disk answers
LOOK  paper    the recovery key opens what lies there
LOOK  backups  there is something that this version can restore
RUN   bring    the index is here, checked, and what came after it is read
RUN   service  the restored box is announced: every process starts anew, and it is it
====  =======  =======================================================================
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from appliance.backup import choice, fetching, restoring
from appliance.backup.choice import Found
from appliance.box import Box
from appliance.catalog import Reading
from appliance.errors import ApplianceError, OperatorNeeded, Refused
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive, build, sftp
from appliance.replication.destinations.past import as_it_was
from appliance.store.recovery import RecoveryKey
from appliance.store.succession import is_announced
from appliance.wizard import runs
from appliance.wizard.runs import Act, Detail, Run, Tell

log = logging.getLogger(__name__)

LOOK: Final = "restore-look"
LOOK_PARTS: Final = ("reach", "paper", "backups")
RUN: Final = "restore"
PARTS: Final = ("bring", "service")
STAGES: Final = ("catalog", "manifests")
_TOLD_EVERY_SECONDS: Final = 0.3


def is_blank(reading: Reading) -> bool:
    """Whether nothing would be lost by restoring another box in the place of this one."""
    try:
        restoring.require_blank(reading)
    except Refused:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Source:
    """From where, the key on paper, and for a bucket the moment as of which (None: as it is now); `subject` is another one each time that
    any is typed."""

    place: DestinationSettings
    key: RecoveryKey
    subject: str
    as_of: datetime | None = None


class Restorer:
    """One restore at a time: who has proved that they may, what they typed, what was found. In memory, and shared by threads."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._lock = threading.Lock()
        self._admitted = ""
        self._place: DestinationSettings | None = None
        self._source: Source | None = None
        self._found: Found | None = None
        self._chosen = ""
        self._busy = ""

    def __repr__(self) -> str:
        return "<Restorer>"

    def admit(self, visitor: str) -> None:
        """The browser `visitor` has typed the claim code; another one that had is not admitted any more.

        The secret and the paper that were typed in that one are not for this one, and it looks for itself.
        """
        with self._lock:
            if visitor != self._admitted:
                self._place = self._source = self._found = None
            self._admitted = visitor

    def is_admitted(self, visitor: str) -> bool:
        """Whether this browser has typed the claim code last."""
        return bool(self._admitted) and secrets.compare_digest(self._admitted, visitor)

    def keep(
        self,
        visitor: str,
        place: DestinationSettings,
        paper: str,
        fingerprint: str = "",
        as_of: datetime | None = None,
    ) -> None:
        """Restore from `place` with the key that `paper` spells; an empty secret stands for the one typed before.

        `fingerprint` is of a file server's key. Without one nothing is sent there, and the look says which key it shows.

        Raises what `build` raises when the place cannot be right, such as a bucket outside Canada, and `Refused` for a
        mistyped key, naming the group, and when `visitor` is not the one who was admitted last.
        """
        with self._lock:
            self._require_admitted(visitor)
            before = self._place
        if before is not None and not place.secret and _same_access(before, place):
            place = replace(place, secret=before.secret)
        self._archive(place)
        if fingerprint:
            place = sftp.trust(place, fingerprint)
        with self._lock:
            # The server was dialled: the claim code may have been typed elsewhere since, and this is not for that browser.
            self._require_admitted(visitor)
            self._place, self._source, self._found = place, None, None
            self._source = Source(place, RecoveryKey.parse(paper), secrets.token_hex(8), as_of)
            self._chosen = ""

    def forget(self) -> None:
        """Choose another source."""
        with self._lock:
            self._source = self._found = None

    @property
    def has_secret(self) -> bool:
        """Whether the secret of an access key was typed."""
        return self._place is not None and bool(self._place.secret)

    @property
    def source(self) -> Source | None:
        """What was typed last, if it can be right."""
        return self._source

    @property
    def found(self) -> Found | None:
        """What the last look at the source found."""
        return self._found

    @property
    def chosen(self) -> str:
        """The name of the backup that was chosen of those that were found; empty for none."""
        return self._chosen

    @property
    def busy(self) -> str:
        """`LOOK` or `RUN` while that is under way in this process."""
        return self._busy

    def begin_look(self) -> None:
        """Try the source in the background, or after it the one that was typed meanwhile; nothing while it restores."""
        self._begin(LOOK, self.look)

    def begin_restore(self, source: Source, actor: str, address: str, backup: str = "") -> None:
        """Restore the backup called `backup` from `source` in the background; nothing if it is at something already."""
        with self._lock:
            if self._source is source:
                self._chosen = backup
        self._begin(RUN, lambda: self.restore(actor, address, source, backup))

    def _begin(self, name: str, work: Callable[[], object]) -> None:
        with self._lock:
            if self._busy:
                return
            self._busy = name

        def act() -> None:
            again = True
            try:
                while again:
                    tried = self._source
                    try:
                        work()
                    except ApplianceError as error:
                        log.warning("%s did not run: %s", name, error)
                    with self._lock:
                        # Whoever typed another source meanwhile was told that it is being looked at.
                        again = name == LOOK and self._source not in (None, tried)
                        self._busy = name if again else ""
            except BaseException:
                self._busy = ""
                raise

        threading.Thread(target=act, name=name, daemon=True).start()

    def look(self) -> Run:
        """Try the source: is it there, does the paper open it, what can be restored. Raises `Transient`, `Refused`.

        What is found counts only as long as no other source was typed meanwhile.
        """
        source = self._known()
        archive: Archive = self._archive(source.place)
        if source.as_of is not None:
            archive = as_it_was(archive, source.as_of)
        found: list[Found] = []

        def reach(tell: Tell) -> Detail:
            tell({})
            for _ in archive.documents("keys/"):
                break
            return {}

        def paper(tell: Tell) -> Detail:
            tell({})
            found.append(choice.look(archive, source.key))
            with self._lock:
                if self._source is source:
                    self._found = found[0]
            return {}

        def backups(tell: Tell) -> Detail:
            tell({})
            for each in found or self._found_of(source):
                each.check()
            return {}

        acts: Mapping[str, Act] = {"reach": reach, "paper": paper, "backups": backups}
        return runs.run(self._box, LOOK, source.subject, acts)

    def restore(self, actor: str, address: str, source: Source | None = None, backup: str = "") -> Run:
        """Prepare the restored box and announce it. Raises `Transient` when that is under way already, `Refused`.

        From `source`, or what was typed last; the backup called `backup`, or the newest that is whole.
        """
        source = source or self._known()
        archive = self._archive(source.place)
        box = self._box

        def bring(tell: Tell) -> Detail:
            restored = restoring.prepare(
                box.config,
                archive,
                source.place,
                source.key,
                tell=_now_and_then(tell),
                actor=actor,
                address=address,
                backup=backup,
                as_of=source.as_of,
            )
            return {"studies": restored.studies, "instances": restored.instances}

        def service(tell: Tell) -> Detail:
            tell({})
            restoring.put_in_service(box)
            return {}

        acts: Mapping[str, Act] = {"bring": bring, "service": service}
        return runs.run(
            box, RUN, secrets.token_hex(8), acts
        )  # all of it again: what is there is only checked

    def is_announced(self) -> bool:
        """Whether the restored box is about to take this one's place."""
        return is_announced(self._box.config.data.absolute())

    def _require_admitted(self, visitor: str) -> None:
        if not self.is_admitted(visitor):
            raise Refused(
                "the claim code was typed in another browser meanwhile",
                hint="type it here again, and then the rest",
            )

    def _found_of(self, source: Source) -> list[Found]:
        """What an earlier look at `source` found, of which a part is tried again."""
        with self._lock:
            return [self._found] if self._source is source and self._found is not None else []

    def _known(self) -> Source:
        if self._source is None:
            raise Refused(
                "it is not said what to restore from",
                hint="say where the sealed copies are, and type the key",
            )
        return self._source

    def _archive(self, place: DestinationSettings) -> Archive:
        built = build(place, self._box)
        if not isinstance(built, Archive):
            raise OperatorNeeded(
                "sealed copies are not kept there", hint="choose a bucket, a disk or a share"
            )
        return built


def _same_access(before: DestinationSettings, now: DestinationSettings) -> bool:
    """Whether a secret that was typed for one place may be shown to the other: the same key at the same provider."""
    which = ("access_key_id", "endpoint_url", "address", "port", "user", "domain")
    return before.kind == now.kind and all(
        before.options.get(name) == now.options.get(name) for name in which
    )


def _now_and_then(tell: Tell) -> fetching.Tell:
    """Tell the page how far it is, a few times a second at most: each telling is a transaction."""
    last = 0.0
    stage_before = ""

    def told(stage: str, done: int, total: int) -> None:
        nonlocal last, stage_before
        moment = time.monotonic()
        if stage == stage_before and moment - last < _TOLD_EVERY_SECONDS and done != total:
            return
        last, stage_before = moment, stage
        tell({"stage": stage, "done": done, "all": total})

    return told
