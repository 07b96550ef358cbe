"""Passwords: what is accepted, and how it is kept.

Chose Argon2id with 64 MiB and 3 passes in one lane (RFC 9106's second recommendation, with less parallelism for a
two-core box) and a limit on how many run at once, because each takes a core for a tenth of a second and 64 MiB. So
few may wait for their turn that a flood of sign-ins is told to come back, and leaves the threads of the console to
those who look at images.
Accepted are 12 characters or more that are not among the first that an attacker tries (NIST SP 800-63B 3.1.1.2:
length and a block list, no rules about kinds of characters, no expiry). The block list is zxcvbn's, with its estimate
of how soon a guesser comes by: 30,000 passwords of breaches, the words and names that people use, keyboards, dates, and
what is put together of them. It works without a network, as the box must. Rejected: asking a service for breached
passwords (a box may never see the Internet, and would say when somebody chooses one), and a copy of a whole breach list
(gigabytes, of which hardly one in a thousand has 12 characters that the estimate does not find).

What is typed counts as it is typed: case, spaces and every character, none cut off. Only that the same accented letter
may be one code point or two, which a keyboard decides and nobody sees, makes no difference (Unicode NFC, after 800-63B's
advice). Rejected: NFKC, which makes one of characters that look different.
"""

from __future__ import annotations

import hmac
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

LEAST_GUESSES = 10**10
"""What a password must cost a guesser who knows how people choose (zxcvbn's highest class). Against the box itself far
fewer can be tried; this is for a catalog that was stolen together with its key."""

CONTEXT = ("clinic", "clinique", "dentist", "dentiste", "dental", "dentaire", "radio", "dicom", "appliance")
"""Words of this product and of where it stands, beside the login and the name of the person; the help lists them."""

_COMMON = (
    "password", "motdepasse", "123456", "qwerty", "azerty", "abcdef", "letmein", "welcome", "bienvenue", "admin",
    "bonjour", "iloveyou", "jetaime", "000000", "111111",
)  # fmt: skip
_ESTIMATED_CHARACTERS = 24
"""What zxcvbn looks at: enough for four words. Its time grows with the square of them, and with every sign that may stand
for a letter: of 72 signs it takes five seconds, of 24 a quarter of one."""


def check_password(password: str, *, login: str, name: str = "") -> None:
    """Raises `Refused` with what to change, unless `password` will do for the person of that login and name.

    Slow enough to need a turn: raises `Transient` like `hash_password`, and has no place in a transaction.
    """
    normal = _as_typed(password)
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
    own = [login.casefold(), *(part for part in name.casefold().split() if len(part) > 2)]
    for word in sorted((*_COMMON, *CONTEXT, *own), key=len, reverse=True):
        left = left.replace(word, "") if word else left
    left = "".join(each for each in left if each.isalnum())
    if len(set(plain)) < 5 or len(left) < 6 or _guesses(normal, [*CONTEXT, *own]) < LEAST_GUESSES:
        raise Refused(
            "the password is easy to guess",
            hint="use a few words that do not belong together",
            field="password",
        )


def _guesses(password: str, known: list[str]) -> int:
    """After how many guesses somebody who knows `known` would come by `password`. Raises `Transient` for too many at once."""
    from zxcvbn import zxcvbn  # its lists are megabytes, and passwords are chosen seldom

    with _Turn():
        return int(zxcvbn(password[:_ESTIMATED_CHARACTERS], user_inputs=known)["guesses"])


def hash_password(password: str) -> str:
    """The text to keep for `password`. Raises `Transient` if too many are being made."""
    with _Turn():
        return _hasher.hash(_as_typed(password))


def verify_password(kept: str, password: str) -> bool:
    """Whether `password` is the one `kept` was made from. Raises `Transient` like `hash_password`."""
    with _Turn():
        try:
            return _hasher.verify(kept, _as_typed(password))
        except (VerificationError, InvalidHashError):
            return False


def is_same(kept: str, other: str) -> bool:
    """Whether two kept texts are the same; says nothing about where they differ by the time that it takes."""
    return hmac.compare_digest(kept.encode(), other.encode())


def _as_typed(password: str) -> str:
    return unicodedata.normalize("NFC", password)


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
