"""Children that render: limits hold, a death costs one picture, and nothing is asked for that is not needed."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from appliance.errors import Corrupt
from appliance.imaging import Darkroom, NotShown, View
from appliance.imaging.child import GIVES_WAY, serve

from .test_pixels import image, part10

PATIENCE_SECONDS = 300.0
"""For a child that starts on a busy machine, where a limit is not what is tested."""


class CountingReader(io.BytesIO):
    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.asked += len(data)
        return data


@pytest.fixture(scope="module")
def darkroom():
    room = Darkroom(1, task_seconds=PATIENCE_SECONDS)
    yield room
    room.close()


def child_pid(room: Darkroom) -> int:
    child = room._idle.queue[-1]
    assert child is not None
    return child.pid


def small() -> bytes:
    return part10(image(np.arange(64, dtype="uint16").reshape(8, 8))).getvalue()


def test_child_draws_what_the_pipeline_draws(darkroom: Darkroom) -> None:
    from appliance.imaging.pixels import render

    data = small()
    assert darkroom.render(io.BytesIO(data), len(data), View(format="png")) == render(
        io.BytesIO(data), View(format="png")
    )
    assert darkroom.describe(io.BytesIO(data), len(data)).columns == 8


def test_drawing_gives_way_to_pages_and_reception(darkroom: Darkroom) -> None:
    data = small()
    darkroom.render(io.BytesIO(data), len(data), View())  # the child has answered, so it has begun
    mine, its = (os.getpriority(os.PRIO_PROCESS, each) for each in (0, child_pid(darkroom)))
    assert its == min(19, mine + GIVES_WAY)


def test_a_unit_that_lets_nobody_give_way_shows_pictures_all_the_same() -> None:
    """Its walls refuse that (`SystemCallFilter=~@resources`): each picture would have ended before it began."""
    forbidden = "import os\ndef nice(_: int) -> int: raise PermissionError\nos.nice = nice\n"
    child = forbidden + "from appliance.imaging.child import main; main()"
    done = subprocess.run([sys.executable, "-c", child], input=b"", capture_output=True, check=False)
    assert done.returncode == 0
    task = json.dumps({"do": "describe", "size": 0}).encode()
    asked = struct.pack(">I", len(task)) + task
    done = subprocess.run([sys.executable, "-c", child], input=asked, capture_output=True, check=False)
    assert done.stdout[:1] == b"E", "it answers, though that was no image"


def test_one_frame_of_a_volume_does_not_fetch_the_volume(darkroom: Darkroom) -> None:
    data = part10(image(np.zeros((64, 256, 256), "uint16"))).getvalue()
    reader = CountingReader(data)
    darkroom.render(reader, len(data), View(frame=40))
    assert reader.asked < len(data) / 8


def test_a_killed_child_costs_one_picture_and_the_next_is_drawn() -> None:
    room = Darkroom(1, task_seconds=PATIENCE_SECONDS)
    data = small()
    room.render(io.BytesIO(data), len(data), View())
    child = room._idle.get()
    assert child is not None
    os.kill(child.pid, signal.SIGSEGV)
    room._idle.put(child)
    with pytest.raises(NotShown) as caught:
        room.render(io.BytesIO(data), len(data), View())
    assert caught.value.reason == "crashed"
    assert room.render(io.BytesIO(data), len(data), View())
    room.close()


def test_a_child_that_hangs_is_ended_at_the_limit() -> None:
    room = Darkroom(1, task_seconds=PATIENCE_SECONDS)
    data = small()
    room.render(io.BytesIO(data), len(data), View())
    room._task_seconds = 0.5
    child = room._idle.get()
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    room._idle.put(child)
    with pytest.raises(NotShown) as caught:
        room.render(io.BytesIO(data), len(data), View())
    assert caught.value.reason == "timeout"
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    room.close()


def test_damage_found_while_reading_reaches_the_caller(darkroom: Darkroom) -> None:
    class Damaged(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise Corrupt("segment 0 does not open")

    with pytest.raises(Corrupt):
        darkroom.render(Damaged(b""), 1000, View())
    data = small()
    assert darkroom.render(io.BytesIO(data), len(data), View())


def test_a_conversation_that_broke_off_never_answers_for_the_next_picture(darkroom: Darkroom) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ValueError("not one of our errors")

    other = part10(image(np.full((8, 8), 9, "uint16"), WindowCenter=9, WindowWidth=4)).getvalue()
    before = darkroom.render(io.BytesIO(other), len(other), View())
    with pytest.raises(ValueError, match="not one of our errors"):
        darkroom.render(Interrupted(b""), len(small()), View())
    assert darkroom.render(io.BytesIO(other), len(other), View()) == before


def test_a_child_out_of_memory_ends_instead_of_reading_on() -> None:
    """The pipe may still hold pixels: read as tasks, they would answer for the next picture."""

    class Exhausted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if size is not None and size > 1000:
                raise MemoryError
            return super().read(size)

    task = json.dumps({"do": "describe", "size": 4000}).encode()
    source = Exhausted(struct.pack(">I", len(task)) + task + struct.pack(">I", 4000) + task * 40)
    sink = io.BytesIO()
    serve(source, sink)
    assert sink.getvalue().endswith(b"too-large")
    assert source.tell() == 4 + len(task) + 4


def test_a_refusal_keeps_the_child(darkroom: Darkroom) -> None:
    data = small()
    darkroom.describe(io.BytesIO(data), len(data))
    before = child_pid(darkroom)
    with pytest.raises(NotShown):
        darkroom.render(io.BytesIO(data), len(data), View(frame=7))
    assert child_pid(darkroom) == before


def test_pictures_asked_for_at_once_are_all_drawn(darkroom: Darkroom) -> None:
    data = small()
    drawn: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: drawn.append(darkroom.render(io.BytesIO(data), len(data), View())))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(drawn) == 12


def test_the_child_ends_with_its_parent() -> None:
    room = Darkroom(1, task_seconds=PATIENCE_SECONDS)
    data = small()
    room.render(io.BytesIO(data), len(data), View())
    child = room._idle.get()
    assert child is not None
    assert child._process.stdin is not None
    child._process.stdin.close()
    deadline = time.monotonic() + 30
    while child._process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child._process.returncode == 0
    child.end()


def test_the_child_answers_in_the_words_of_its_table() -> None:
    data = small()
    task = json.dumps({"do": "describe", "size": len(data)}).encode()
    source = struct.pack(">I", len(task)) + task + struct.pack(">I", len(data)) + data
    sink = io.BytesIO()
    serve(io.BytesIO(source), sink)
    answer = sink.getvalue()
    assert answer[:1] == b"R"
    offset, length = struct.unpack(">QI", answer[1:13])
    assert (offset, length) == (0, len(data))
    assert answer[13:14] == b"D"
    assert json.loads(answer[18:])["rows"] == 8
