"""Rows written together: each is committed before whoever waits for it goes on, and who has none is told."""

import threading
from collections.abc import Sequence

from appliance import audit
from appliance.errors import Transient
from appliance.web.together import Together
from tests.backup.conftest import eventually


def entry(subject: str) -> audit.Entry:
    return audit.Entry("study:view", subject, "mtremblay")


class Log:
    """What was written, transaction by transaction; a writer waits where `held` says so."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.held = threading.Event()
        self.held.set()
        self.broken: BaseException | None = None
        self.breaks = ""
        self.writing = threading.Event()

    def write(self, entries: Sequence[audit.Entry]) -> None:
        self.writing.set()
        assert self.held.wait(120)
        subjects = [each.subject for each in entries]
        if self.broken is not None and (self.breaks in subjects or not self.breaks):
            raise self.broken
        self.written.append(subjects)


def crowd(together: Together, log: Log, subjects: Sequence[str]) -> dict[str, BaseException | None]:
    """Somebody writes and is held up; all of `subjects` come meanwhile. What each was told."""
    told: dict[str, BaseException | None] = {}

    def ask(subject: str) -> None:
        try:
            together.append(entry(subject))
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            told[subject] = error
        else:
            assert any(subject in each for each in log.written), "went on without its row"
            told[subject] = None

    log.held.clear()
    log.writing.clear()
    threads = [threading.Thread(target=ask, args=("first",))]
    threads[0].start()
    assert log.writing.wait(120)
    for subject in subjects:
        threads.append(threading.Thread(target=ask, args=(subject,)))
        threads[-1].start()
    eventually(lambda: len(together._line) == len(subjects))
    assert not told, "somebody went on before anything was written"
    log.held.set()
    for each in threads:
        each.join(120)
    return told


def test_who_waits_meanwhile_is_written_in_one_transaction() -> None:
    log = Log()
    subjects = [f"study:{number}" for number in range(40)]
    told = crowd(Together(log.write), log, subjects)
    assert told == dict.fromkeys(["first", *subjects])
    assert [len(each) for each in log.written] == [1, 40]
    assert sorted(log.written[1]) == sorted(subjects)


def test_when_it_cannot_be_written_everybody_is_told() -> None:
    log = Log()
    log.broken = Transient("the catalog is busy")
    together = Together(log.write)
    told = crowd(together, log, ["study:1", "study:2"])
    assert set(told.values()) == {log.broken}
    log.broken = None
    together.append(entry("study:3"))  # and then it works
    assert log.written == [["study:3"]]


def test_a_mistake_in_one_row_leaves_the_others_theirs() -> None:
    log = Log()
    log.broken, log.breaks = TypeError("no JSON"), "bad"
    told = crowd(Together(log.write), log, ["study:1", "bad", "study:2"])
    assert told == {"first": None, "study:1": None, "study:2": None, "bad": log.broken}


def test_a_row_counts_as_written_only_once_it_is() -> None:
    """Whatever ends the one who writes for all: nobody takes that for success."""
    log = Log()
    log.broken, log.breaks = SystemExit(), "study:2"
    told = crowd(Together(log.write), log, ["study:1", "study:2", "study:3"])
    assert log.written == [["first"]]
    assert told.pop("first") is None
    assert sorted(type(each).__name__ for each in told.values()) == ["SystemExit", "Unanswered", "Unanswered"]


def test_nobody_waits_for_a_transaction_after_its_own() -> None:
    """Whose row is committed goes on, although others who came later are being written."""
    log = Log()
    together = Together(log.write)
    ended = threading.Event()

    def ask(subject: str, then: threading.Event | None = None) -> None:
        together.append(entry(subject))
        if then is not None:
            then.set()

    log.held.clear()
    threads = [threading.Thread(target=ask, args=("first",))]
    threads[0].start()
    assert log.writing.wait(120)
    threads.append(threading.Thread(target=ask, args=("leads", None)))
    threads[1].start()
    eventually(lambda: len(together._line) == 1)
    threads.append(threading.Thread(target=ask, args=("follows", ended)))
    threads[2].start()
    eventually(lambda: len(together._line) == 2)
    second = threading.Event()
    plain = log.write

    def write(entries: Sequence[audit.Entry]) -> None:
        plain(entries)
        if [each.subject for each in entries] == ["leads", "follows"]:
            threads.append(threading.Thread(target=ask, args=("later",)))
            threads[3].start()
            eventually(lambda: len(together._line) == 1)
            log.held.clear()  # what comes after is held up
            second.set()

    together._write = write
    log.held.set()
    assert second.wait(120)
    assert ended.wait(120), "its row is committed, and it waits for a row of somebody else"
    log.held.set()
    for each in threads:
        each.join(120)
    assert log.written == [["first"], ["leads", "follows"], ["later"]]
