"""Text as people search for it: without case, accents or punctuation. Pure.

*Hélène* finds *HELENE*, "cote levesque" finds ``CÔTÉ-LÉVESQUE^Hélène``. Compatibility decomposition (Unicode NFKD)
takes accents off letters; the few letters that are one sign of two, as in *Lebœuf*, are spelt out, because keyboards
and old systems do.
"""

from __future__ import annotations

import unicodedata

_SPELT_OUT = str.maketrans(
    {"œ": "oe", "æ": "ae", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i"}
)


def fold(text: str) -> str:
    """`text` in lower-case letters and digits without marks, its words parted by single spaces."""
    if text.isascii():
        plain = text.lower()
    else:
        plain = unicodedata.normalize(
            "NFKD", unicodedata.normalize("NFKD", text).casefold().translate(_SPELT_OUT)
        )
        plain = "".join(each for each in plain if not unicodedata.combining(each))
    return " ".join("".join(each if each.isalnum() else " " for each in plain).split())


def folded_words(text: str) -> tuple[str, ...]:
    """The words of `text`, folded, in order."""
    return tuple(fold(text).split())
