"""The watch on the alarm: another process that judges the box, and tells, when the one that does it has fallen silent.

The jobs process makes the backups and their drills, and judges whether they are late. Were it to hang, to be ended or to fail
at judging, nobody would be told of anything. So the process that delivers looks at what the jobs process says of itself: how
often its alarm has come to its end. When that stands still for `SILENT_SECONDS`, this one judges in its place, with the same
alarm and the same rules, and carries the letters and webhooks out, until the other one judges again.

Chose the courier because it runs on every box, has a line to the outside, and nobody reaches it from the network. Chose to stand
in rather than to judge beside: two that judge at once from facts of different moments would tell of one trouble twice. Each
judgement is one transaction that reads what was told before, so the turn between the two doubles nothing. Silence is counted by
the monotonic clock, so that a clock that is set makes nobody silent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from appliance.alarm import JUDGED_EVERY_SECONDS, Alarm
from appliance.box import Box
from appliance.catalog import processes
from appliance.errors import ApplianceError
from appliance.health.checks import services
from appliance.notify import sending, smtp
from appliance.notify.alerts import Condition
from appliance.notify.kinds import Channel
from appliance.notify.sending import Messenger, Surroundings

WATCHED = "jobs"
JUDGED = "judged"
"""Where the heartbeat of the jobs process says how often its alarm has come to its end."""

SILENT_SECONDS = 90.0
"""A slow box judges late now and then; a start takes twenty seconds to the first judgement."""

MOST_MESSAGES = 50
"""How many are sent between two judgements, so that neither waits for long."""

log = logging.getLogger(__name__)


@dataclass
class Watch:
    """Looks at the alarm of the jobs process, and stands in for it; one look at a time.

    A jobs process that starts again and again without ever judging is as silent as one that is gone.
    """

    box: Box
    surroundings: Surroundings = field(default_factory=Surroundings)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._messenger = Messenger(  # on the thread that judges: no file is waited for
            self.box, self.surroundings, patience_seconds=smtp.TIMEOUT_SECONDS
        )
        self._alarm = Alarm()
        self._judgement: tuple[object, ...] | None = None
        self._judged: float | None = None
        self._stands_in = False

    def look(self, now: datetime, monotonic: float) -> bool:
        """Look once, at `now` and at `monotonic` seconds of a clock that nobody sets; whether this one stands in."""
        with self.box.catalog.reading() as reading:
            row = next((each for each in processes.processes(reading) if each.name == WATCHED), None)
        judgement = (
            (row.started_utc, row.detail[JUDGED]) if row is not None and row.detail.get(JUDGED) else None
        )
        if self._judged is None or judgement not in (None, self._judgement):
            self._judgement, self._judged = judgement, monotonic
        silent = monotonic - self._judged >= SILENT_SECONDS
        if silent != self._stands_in:
            self._stands_in = silent
            say = log.error if silent else log.info
            say(
                "the jobs process %s", "does not judge the box: it is done here" if silent else "judges again"
            )
        if silent:
            self._judge(now)
        return silent

    def _judge(self, now: datetime) -> None:
        stopped = services.stopped(WATCHED)
        self._alarm(self.box, now, (Condition(stopped.code, stopped.words, stopped.fix, stopped.subject),))
        sending.give_back(self.box, now)
        for channel in (Channel.MAIL, Channel.WEBHOOK):
            for _ in range(MOST_MESSAGES):
                if self.stop.is_set() or not self._messenger.send_next(channel):
                    break


@contextmanager
def kept(box: Box) -> Iterator[None]:
    """Keep the watch, on a thread of its own, while the block runs."""
    watch = Watch(box)

    def keep() -> None:
        while not watch.stop.wait(JUDGED_EVERY_SECONDS):
            try:
                watch.look(datetime.now(UTC), time.monotonic())
            except ApplianceError as error:
                log.warning("the watch on the alarm: %s", error)
            except Exception as error:  # noqa: BLE001 - an edge: the watch goes on, and says nothing of what it held
                log.error("the watch on the alarm failed: %s", type(error).__name__)

    thread = threading.Thread(target=keep, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.stop.set()
        thread.join(smtp.TIMEOUT_SECONDS)
