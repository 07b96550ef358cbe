"""An alarm and its messenger that kill themselves with SIGKILL when they reach a step for the n-th time.

``run(data, step, times)``, in a process of its own: judges a full disk, then sends what there is to send; ends by itself,
with status 0, once nothing waits. The step ``judging`` dies inside the judgement's transaction, ``judged`` after it.
"""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from appliance.catalog import outbox
from appliance.notify import judging, mail
from appliance.notify.kinds import Channel
from appliance.notify.sending import Messenger, Surroundings
from tests.boxes import box_in
from tests.notify.test_telling import FULL


def run(data: Path, step: str, times: int) -> None:
    reached = 0

    def die(here: str) -> None:
        nonlocal reached
        if here == step:
            reached += 1
            if reached == times:
                os.kill(os.getpid(), signal.SIGKILL)

    write: Any = mail.enqueue

    def enqueue(*words: object, **others: object) -> int:
        number = int(write(*words, **others))
        die("judging")
        return number

    with patch.object(mail, "enqueue", enqueue), box_in(data) as box:
        judging.apply(box.catalog, [FULL], datetime.now(UTC))
        die("judged")
        with box.catalog.transaction() as tx:
            outbox.release_all(tx, datetime.now(UTC))
        messenger = Messenger(box, Surroundings(reached=die))
        while messenger.send_next(Channel.MAIL) or messenger.send_next(Channel.WEBHOOK):
            pass
