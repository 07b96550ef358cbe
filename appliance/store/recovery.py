"""The recovery key: what the clinic prints and keeps in a drawer, and types on the day when the box is gone.

Pure but for drawing one. It says *where* a typing error is, so that nobody gives up on a right key mistyped, and tells
a typing error from another box's key (the second is known only by trying it: `appliance.store.keys`).

Chose nine groups of four symbols and a check symbol; because one wrong symbol, or two exchanged, is then certain to be
found and the group can be named. Rejected: one checksum over everything (it says "wrong", not where), words (two
languages, and a list to carry for ever), a passphrase (its strength would rest on a slow derivation: this key is 160
random bits, so HKDF is enough to make a wrapping key of it).

Symbols are Crockford's base 32 (no I, L, O, U). Written ``4J7QX-…``, symbol by symbol::

    groups 1-8   4 x 5 bits of the secret, most significant first; then a check symbol
    group 9      the first 20 bits of SHA-256("clinic-edge recovery key 1" | secret); then a check symbol
    check        g + 2 a + 4 b + 8 c + 16 d  over GF(2**5) modulo x**5 + x**2 + 1, for the symbols abcd of group g

In the check, ``+`` is exclusive or and g is 1 to 9, which finds exchanged groups too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata

from appliance.errors import Refused

SECRET_BYTES = 20
GROUPS = 9
GROUP_SYMBOLS = 5

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {symbol: value for value, symbol in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_SEPARATORS = re.compile(r"[\s\-\u2010-\u2015\u2212_.,:;/]+")
_PURPOSE = b"clinic-edge recovery key 1"
_HINT = "compare it with the printed key, letter by letter"


def _times_two(value: int, times: int) -> int:
    for _ in range(times):
        value <<= 1
        if value & 0b100000:
            value ^= 0b100101
    return value


def _check_symbol(group: int, values: list[int]) -> int:
    check = group
    for place, value in enumerate(values, start=1):
        check ^= _times_two(value, place)
    return check


def _digits(number: int, count: int) -> list[int]:
    return [number >> 5 * place & 31 for place in reversed(range(count))]


def _fingerprint(secret: bytes) -> list[int]:
    return _digits(int.from_bytes(hashlib.sha256(_PURPOSE + secret).digest()[:3], "big") >> 4, 4)


class RecoveryKey:
    """160 random bits that open a box's root key. `str()` is the text to print; `repr` shows nothing."""

    __slots__ = ("secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a recovery key has {SECRET_BYTES} bytes, not {len(secret)}")
        self.secret = secret

    @classmethod
    def generate(cls) -> RecoveryKey:
        """A new one, from the system's random source."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> RecoveryKey:
        """The key that `text` spells; case, spaces, dashes, O for 0 and I or L for 1 don't matter.

        Raises `Refused` naming the groups that are mistyped. No message repeats any of the key.
        """
        pieces = [piece for piece in _SEPARATORS.split(unicodedata.normalize("NFKC", text).upper()) if piece]
        symbols = "".join(pieces)
        if len(symbols) != GROUPS * GROUP_SYMBOLS:
            raise _wrong_length(pieces)
        groups = [symbols[at : at + GROUP_SYMBOLS] for at in range(0, len(symbols), GROUP_SYMBOLS)]
        values: list[int] = []
        mistyped = []
        for number, group in enumerate(groups, start=1):
            digits = [_VALUE.get(symbol, -1) for symbol in group]
            if -1 in digits or _check_symbol(number, digits[:-1]) != digits[-1]:
                mistyped.append(number)
            values += digits[:-1]
        if mistyped:
            raise Refused(f"{_named(mistyped)} of the recovery key {_verb(mistyped)} mistyped", hint=_HINT)
        number = 0
        for value in values[:-4]:
            number = number << 5 | value
        secret = number.to_bytes(SECRET_BYTES, "big")
        if values[-4:] != _fingerprint(secret):
            raise Refused("the recovery key is mistyped in more than one place of a group", hint=_HINT)
        return cls(secret)

    def __str__(self) -> str:
        digits = _digits(int.from_bytes(self.secret, "big"), 32) + _fingerprint(self.secret)
        groups = []
        for group in range(1, GROUPS + 1):
            values = digits[4 * group - 4 : 4 * group]
            groups.append("".join(_ALPHABET[value] for value in [*values, _check_symbol(group, values)]))
        return "-".join(groups)

    def __repr__(self) -> str:
        return "<RecoveryKey>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecoveryKey) and hmac.compare_digest(self.secret, other.secret)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> str:
        raise TypeError("a recovery key is never pickled")


def _named(groups: list[int]) -> str:
    if len(groups) == 1:
        return f"group {groups[0]}"
    return f"groups {', '.join(map(str, groups))}"


def _verb(groups: list[int]) -> str:
    return "is" if len(groups) == 1 else "are"


def _wrong_length(pieces: list[str]) -> Refused:
    """Name the groups of the wrong length if the text was typed in groups, else say how much is missing."""
    wrong = [number for number, piece in enumerate(pieces, start=1) if len(piece) != GROUP_SYMBOLS]
    if len(pieces) == GROUPS:
        return Refused(
            f"{_named(wrong)} of the recovery key {_verb(wrong)} mistyped: every group has {GROUP_SYMBOLS} characters",
            hint=_HINT,
        )
    typed, expected = sum(map(len, pieces)), GROUPS * GROUP_SYMBOLS
    return Refused(
        f"the recovery key has {expected} characters in {GROUPS} groups, {typed} were typed",
        hint=_HINT if typed else "type it as it is printed",
    )
