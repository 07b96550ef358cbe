"""Documents read ahead: many are on their way at once, they come in order, and no more is held than was promised."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from appliance.backup import ahead
from appliance.errors import Transient, Unknown
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Distant, Document

PATIENCE = 60


@dataclass
class Nearby:
    """A disk, which does not say that it answers several at once; counts what is asked, and asks `before` it answers."""

    before: Callable[[str], None] = lambda _: None
    content: Callable[[str], bytes] = str.encode
    asked: list[str] = field(default_factory=list)
    now: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put_document(self, key: str, data: bytes) -> None:
        raise NotImplementedError

    def document(self, key: str) -> bytes:
        with self.lock:
            self.asked.append(key)
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
        try:
            self.before(key)
            return self.content(key)
        finally:
            with self.lock:
                self.now -= 1

    def documents(self, prefix: str) -> Iterator[Document]:
        for number in range(1_000):
            yield Document(f"{prefix}{number:04d}", datetime.now(UTC))

    def blocks(self, key: str) -> Iterator[bytes]:
        yield self.document(key)


@dataclass
class FarAway(Nearby):
    """A bucket."""

    reads_at_once: int = 8


class Together:
    """Lets nobody through before so many wait at once; then everybody."""

    def __init__(self, count: int) -> None:
        self._count, self._waiting = count, 0
        self._changed = threading.Condition()

    def __call__(self, _key: str) -> None:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._waiting >= self._count, PATIENCE):
                raise Transient("they were asked for one by one")


def keys(count: int) -> list[str]:
    return [f"manifests/{number:04d}" for number in range(count)]


def read_all(archive: Archive, wanted: list[str]) -> list[tuple[str, bytes]]:
    with ahead.reading(archive, wanted, str) as found:
        return [(each, document()) for each, document in found]


def test_as_many_are_on_their_way_as_the_archive_bears_and_all_come_in_order() -> None:
    archive = FarAway(before=Together(8))
    assert isinstance(archive, Distant)
    assert read_all(archive, keys(500)) == [(each, each.encode()) for each in keys(500)]
    assert archive.most_at_once == 8
    assert sorted(archive.asked) == keys(500), "each was asked for once"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 32, 33])
def test_a_list_of_any_length_comes_to_its_end(count: int) -> None:
    assert [each for each, _ in read_all(FarAway(), keys(count))] == keys(count)


def test_fewer_are_asked_for_at_once_where_the_caller_says_so() -> None:
    archive = FarAway(before=Together(3))
    with ahead.reading(archive, keys(50), str, most=3) as found:
        assert sum(len(document()) for _, document in found) == 50 * len(keys(1)[0])
    assert archive.most_at_once == 3


def test_no_more_is_held_than_promised_while_nobody_takes_it() -> None:
    archive = FarAway()
    with ahead.reading(archive, keys(1_000), str) as found:
        for taken, (_, document) in enumerate(found, start=1):
            document()
            assert len(archive.asked) <= taken + ahead.WAITING * archive.reads_at_once
    assert taken == 1_000


def test_large_documents_are_not_piled_up() -> None:
    large = bytes(ahead.MOST_BYTES // 2)
    archive = FarAway(content=lambda _: large)
    with ahead.reading(archive, keys(60), str) as found:
        for taken, (_, document) in enumerate(found, start=1):
            document()
            # two that have come fill what may wait; beside them only those that were on their way already
            assert len(archive.asked) <= taken + 2 + archive.reads_at_once
    assert taken == 60


def test_a_failure_comes_where_its_document_has_its_turn() -> None:
    def before(key: str) -> None:
        if key == "manifests/0020":
            raise Unknown("it has gone meanwhile")

    came, failed = [], []
    with ahead.reading(FarAway(before=before), keys(100), str) as found:
        for each, document in found:
            try:
                came.append(document().decode())
            except Unknown:
                failed.append((each, len(came)))
    assert failed == [("manifests/0020", 20)]
    assert came == [each for each in keys(100) if each != "manifests/0020"]


def test_what_may_come_later_is_asked_for_again_before_it_counts_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead, "PAUSE_SECONDS", 0.0)
    tried: Counter[str] = Counter()

    def before(key: str) -> None:
        tried[key] += 1
        if tried[key] < ahead.TRIES and key in keys(5):
            raise Transient("slow down")

    assert [each for each, _ in read_all(FarAway(before=before), keys(20))] == keys(20)
    assert [tried[key] for key in keys(7)] == [ahead.TRIES] * 5 + [1, 1]


def test_what_does_not_come_however_often_is_asked_for_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PAUSE_SECONDS", 0.0)

    def before(key: str) -> None:
        raise Transient("the line is down")

    archive = FarAway(before=before)
    with pytest.raises(Transient, match="down"):
        read_all(archive, keys(1))
    assert archive.asked == keys(1) * ahead.TRIES


def test_nobody_waits_for_another_try_once_somebody_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PAUSE_SECONDS", 3_600.0)
    failed = threading.Event()

    def before(key: str) -> None:
        if key == "manifests/0001":
            failed.set()
            raise Transient("slow down")

    with pytest.raises(KeyboardInterrupt), ahead.reading(FarAway(before=before), keys(2), str) as found:
        next(found)
        assert failed.wait(PATIENCE)
        raise KeyboardInterrupt


def test_a_list_that_breaks_off_fails_after_what_it_had_said() -> None:
    def listed() -> Iterator[str]:
        yield from keys(70)
        raise Transient("the line is cut")

    came = []
    with pytest.raises(Transient, match="cut"), ahead.reading(FarAway(), listed(), str) as found:
        for _, document in found:
            came.append(document().decode())
    assert came == keys(70)


def test_nothing_is_being_read_any_more_once_somebody_has_left() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def before(key: str) -> None:
        if key != "manifests/0000":
            entered.set()
            assert go_on.wait(PATIENCE)

    archive = FarAway(before=before)
    with pytest.raises(KeyboardInterrupt), ahead.reading(archive, keys(1_000), str) as found:
        next(found)[1]()
        assert entered.wait(PATIENCE)
        go_on.set()
        raise KeyboardInterrupt
    assert archive.now == 0
    count = len(archive.asked)
    assert count <= 1 + archive.reads_at_once, "what was not on its way was not asked for"
    assert not [each for each in threading.enumerate() if each.name.startswith("read-ahead")]


def test_the_list_is_read_ahead_too_and_no_further_than_needed() -> None:
    listed = []

    def source() -> Iterator[str]:
        for each in keys(1_000):
            listed.append(each)
            yield each

    archive = FarAway()
    bound = 2 * ahead.WAITING * archive.reads_at_once + archive.reads_at_once
    with ahead.reading(archive, source(), str) as found:
        for taken, (_, document) in enumerate(found, start=1):
            document()
            assert len(listed) <= taken + ahead.WAITING * archive.reads_at_once + bound
    assert taken == 1_000


def test_a_disk_is_read_one_by_one_when_each_has_its_turn() -> None:
    archive = Nearby()
    assert not isinstance(archive, Distant)
    with ahead.reading(archive, keys(50), str) as found:
        for taken, (_, document) in enumerate(found):
            assert len(archive.asked) == taken
            document()
    assert archive.most_at_once == 1
