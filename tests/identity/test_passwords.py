"""Hashing is slow on purpose, and a flood of it is turned away."""

import threading

import pytest

from appliance.errors import Transient
from appliance.identity import passwords


def test_a_flood_is_told_to_come_back_at_once_and_afterwards_all_is_well() -> None:
    inside, leave = threading.Barrier(passwords.AT_ONCE + 1), threading.Event()

    def hold() -> None:
        with passwords._Turn():
            inside.wait(30)
            leave.wait(30)

    holders = [threading.Thread(target=hold) for _ in range(passwords.AT_ONCE)]
    for each in holders:
        each.start()
    inside.wait(30)
    queue = [passwords._queue.acquire(blocking=False) for _ in range(passwords.WAITING)]
    assert all(queue)
    with pytest.raises(Transient, match="too many"):
        passwords.hash_password("quatre lapins sur une horloge")
    for _ in queue:
        passwords._queue.release()
    leave.set()
    for each in holders:
        each.join(30)
    kept = passwords.hash_password("quatre lapins sur une horloge")
    assert passwords.verify_password(kept, "quatre lapins sur une horloge")


def test_parameters_are_those_of_rfc_9106_for_little_memory() -> None:
    kept = passwords.hash_password("quatre lapins sur une horloge")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
