"""A courier that kills itself with SIGKILL when it reaches a step for the n-th time.

``run(data, step, times)``, in a process of its own; it ends by itself, with status 0, once nothing is owed and every
manifest is written.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from appliance.box import Box
from appliance.catalog import deliveries
from appliance.replication import courier
from appliance.replication.batch import Surroundings
from tests.boxes import box_in


def run(data: Path, step: str, times: int) -> None:
    reached = 0
    lock = threading.Lock()

    def die(here: str) -> None:
        nonlocal reached
        if here == step:
            with lock:
                reached += 1
                if reached == times:
                    os.kill(os.getpid(), signal.SIGKILL)

    stop = threading.Event()
    with box_in(data) as box:
        threading.Thread(target=_stop_when_done, args=(box, stop), daemon=True).start()
        courier.run(box, stop, Surroundings(poll_seconds=0.02, reached=die))


def _stop_when_done(box: Box, stop: threading.Event) -> None:
    while True:
        with box.catalog.reading() as conn:
            owed = any(each.counts for each in deliveries.waiting_summary(conn))
            dirty = conn.exec_driver_sql(
                "SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL"
            ).scalar_one()
        if not owed and not dirty:
            stop.set()
            return
        time.sleep(0.05)
