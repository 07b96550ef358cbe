"""Passwords: what is accepted, and how it is kept.

Chose Argon2id with 64 MiB and 3 passes in one lane (RFC 9106's second recommendation, with less parallelism for a
two-core box) and a limit on how many run at once, because each takes a core for a tenth of a second and 64 MiB. So
few may wait for their turn that a flood of sign-ins is told to come back, and leaves the threads of the console to
those who look at images.
Accepted are 12 characters or more that are not among the first that an attacker tries (NIST SP 800-63B 3.1.1.2:
length and a block list, no rules about kinds of characters, no expiry).
"""

from __future__ import annotations

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.errors import Refused, Transient

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 200
AT_ONCE = 2
WAITING = 8
WAIT_SECONDS = 10.0

_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
_turn = threading.BoundedSemaphore(AT_ONCE)
_queue = threading.BoundedSemaphore(AT_ONCE + WAITING)

_COMMON = (
    "password", "motdepasse", "123456", "qwerty", "azerty", "abcdef", "letmein", "welcome", "bienvenue", "clinic",
    "clinique", "dentiste", "dentist", "admin", "bonjour", "iloveyou", "jetaime", "000000", "111111",
)  # fmt: skip


def check_password(password: str, *, login: str) -> None:
    """Raises `Refused` with what to change, unless `password` will do for `login`."""
    normal = unicodedata.normalize("NFKC", password)
    if len(normal) < LEAST_CHARACTERS:
        raise Refused(
            "the password is too short",
            hint=f"use {LEAST_CHARACTERS} characters or more: a few words will do",
            field="password",
        )
    if len(normal) > MOST_CHARACTERS:
        raise Refused(
            "the password is too long", hint=f"use {MOST_CHARACTERS} characters at most", field="password"
        )
    plain = normal.casefold()
    left = plain
    for word in (*_COMMON, login.casefold()):
        left = left.replace(word, "") if word else left
    if len(set(plain)) < 5 or len(left) < 6:
        raise Refused(
            "the password is easy to guess",
            hint="use a few words that do not belong together",
            field="password",
        )


def hash_password(password: str) -> str:
    """The text to keep for `password`. Raises `Transient` if too many are being made."""
    with _Turn():
        return _hasher.hash(unicodedata.normalize("NFKC", password))


def verify_password(kept: str, password: str) -> bool:
    """Whether `password` is the one `kept` was made from. Raises `Transient` like `hash_password`."""
    with _Turn():
        try:
            return _hasher.verify(kept, unicodedata.normalize("NFKC", password)[: 4 * MOST_CHARACTERS])
        except (VerificationError, InvalidHashError):
            return False


def nobodys_password() -> str:
    """A text that no password fits, so that an unknown login takes as long as a known one."""
    global _nobody
    if _nobody is None:
        _nobody = _hasher.hash("nobody has this password, and nobody may have it")
    return _nobody


_nobody: str | None = None


class _Turn:
    """A turn at the hasher, waited for a bounded time, by a bounded number."""

    def __enter__(self) -> None:
        if not _queue.acquire(blocking=False):
            raise _too_many()
        if not _turn.acquire(timeout=WAIT_SECONDS):
            _queue.release()
            raise _too_many()

    def __exit__(self, *_: object) -> None:
        _turn.release()
        _queue.release()


def _too_many() -> Transient:
    return Transient("too many people are signing in at once", hint="try again in a moment")
