"""Fifty devices at once: nothing is refused, nothing is lost, and the memory and threads of before come back."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import pytest

from appliance.store import envelope
from tests.boxes import data_set_of, recorded
from tests.dicom.peers import Aborted, Closed, Rejected
from tests.instances import Instance
from tests.system.running import MIB, Appliance, appliance, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SENDERS = 50
EACH = 40
SIZES = (110_000, 20_000, 120_000, 60_000, 125_000, 1_300_000, 90_000, 115_000)
"""Bytes of pixels; most are as large as what passes through memory as a whole."""

GROWTH_BYTES = 20 * MIB
"""Of a worker's own memory, from the median of one third of the load to that of the next.

Less than half of the small objects in a third, and far more than was ever seen (1 MiB). A median, because a peak says how
many large images happened to be in memory at once.
"""

POOL_BYTES = SENDERS * 2 * envelope.SEGMENT_BYTES + 16 * MIB
"""What the pairs of buffers of `ingest.sealing` come to, one for each association, and the pages of programs and catalog.

They are handed out again, but fill with memory only as the first large image passes each: they grow for as long as the
load lasts, and up to here.
"""

THREAD_SLACK = 2
FILE_SLACK = 80
"""SQLite keeps some descriptors for its next connections, some thirty; a leak adds one for each association."""


class Memory(NamedTuple):
    """What the workers together hold in memory at one moment, in bytes."""

    own: int
    shared: int
    """Mapped: buffers that are handed out again, and pages of files."""


class Load:
    """Fifty threads that send; what was acknowledged, what went wrong, and the workers' memory meanwhile."""

    def __init__(self, box: Appliance) -> None:
        self._box = box
        self._workers = box.workers()
        self._together = threading.Barrier(SENDERS)
        self._lock = threading.Lock()
        self.acknowledged: dict[str, str] = {}
        self.wrong: list[object] = []
        self.memory: list[Memory] = []
        self.open_at_once = 0

    def run(self) -> None:
        threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, number: int) -> None:
        try:
            with self._box.peer() as peer:
                peer.associate(max_pdu=131072)
                if self._together.wait(60) == 0:  # all are associated now, and one of them looks
                    self.open_at_once = _connections(self._workers)
                self._together.wait(60)
                for turn in range(EACH):
                    size_bytes = SIZES[(number + turn) % len(SIZES)]
                    instance = Instance(turn, study=number + 1, pixel_bytes=size_bytes)
                    uid, data = instance.sop_instance_uid, instance.data_set
                    status = peer.store(data, uid, fragment_bytes=65_000).status
                    with self._lock:
                        if status:
                            self.wrong.append((uid, hex(status)))
                        self.acknowledged[uid] = hashlib.sha256(data).hexdigest()
                        self.memory.append(_memory(self._workers))
                peer.release()
        except (Aborted, Closed, Rejected, OSError, threading.BrokenBarrierError) as error:
            self.wrong.append((number, repr(error)))
            self._together.abort()


def _memory(workers: list[psutil.Process]) -> Memory:
    found = [worker.memory_info() for worker in workers]
    return Memory(sum(each.rss - each.shared for each in found), sum(each.shared for each in found))


def _connections(workers: list[psutil.Process]) -> int:
    return sum(
        connection.status == "ESTABLISHED"
        for worker in workers
        for connection in worker.net_connections("tcp")
    )


def test_fifty_associations_at_once_cost_no_error_and_no_memory(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with appliance(tmp_path / "box", free_port, start=["dicom"]) as box:
        workers = box.workers()
        threads_before = [worker.num_threads() for worker in workers]
        shared_before = _memory(workers).shared
        files_before = sum(worker.num_fds() for worker in workers)
        load = Load(box)
        load.run()
        assert load.wrong == []
        assert load.open_at_once == SENDERS
        assert len(load.acknowledged) == SENDERS * EACH

        with box.opened() as opened:
            wait_for(lambda: len(recorded(opened)) >= len(load.acknowledged), "all are recorded")
            kept = {
                row.sop_instance_uid: hashlib.sha256(data_set_of(opened, row)).hexdigest()
                for row in recorded(opened)
            }
        assert kept == load.acknowledged

        own = [each.own for each in load.memory]
        third = len(own) // 3
        early, late = median(own[third : 2 * third]), median(own[2 * third :])
        assert late - early < GROWTH_BYTES, f"{early / MIB:.0f} MiB grew to {late / MIB:.0f} MiB"
        pool = max(each.shared for each in load.memory) - shared_before
        assert pool < POOL_BYTES, f"buffers of {pool / MIB:.0f} MiB"

        assert box.workers() == workers, "a worker died"
        wait_for(
            lambda: all(
                worker.num_threads() <= before + THREAD_SLACK
                for worker, before in zip(workers, threads_before, strict=True)
            ),
            lambda: f"threads: {threads_before}, now {[worker.num_threads() for worker in workers]}",
        )
        assert _connections(workers) == 0
        files = sum(worker.num_fds() for worker in workers)
        assert files - files_before < FILE_SLACK, f"{files_before} open files became {files}"
        print(
            f"two workers: {early / MIB:.1f} MiB, then {late / MIB:.1f} MiB; buffers of {pool / MIB:.0f} MiB"
        )
