"""Text of a data set, decoded for display (PS3.5 6.1, PS3.3 C.12.1.1.2).

Chose a lenient decoder of our own over the library's tables of terms, because it can never fail, never warns and
keeps what the clinic can read: the received bytes stay as they are in the sealed object, so a wrong guess costs a
glyph on a screen and nothing else. Rejected `pydicom.charset.decode_bytes`: it warns through a process-wide filter for
each odd value, from every thread, with the value in the message.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

UNDECLARED: Final = "cp1252"
"""What high bytes are taken for when no character set, or a wrong one, is declared (French devices mean this)."""

_NOT_REALLY: Final = frozenset({"", "iso8859"})  # ISO_IR 6 has no high half: bytes there are undeclared
_FRAGMENTS: Final = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
_RESETS: Final = re.compile(rb"[\\^=\r\n\t\f]")  # PS3.5 6.1.2.5.3: these return to the first character set
_STATEFUL: Final = frozenset(
    {"iso2022_jp", "iso2022_jp_2", "iso_ir_58"}
)  # Python wants their escapes left in


def encodings(specific_character_set: bytes) -> tuple[str, ...]:
    """Python codecs for a value of (0008,0005), in its order; an unknown term counts as undeclared.

    Terms are accepted without care for case, hyphen or blank, as devices write them (``ISO-IR 192``, ``iso_ir_100``).
    """
    if not specific_character_set.strip(b" \0"):
        return (UNDECLARED,)
    terms = specific_character_set.decode("ascii", "replace").strip(" \0").split("\\")
    found = [_TERMS.get(_plain(term), UNDECLARED) for term in terms]
    return tuple(UNDECLARED if codec in _NOT_REALLY else codec for codec in found)


def decode(value: bytes, codecs: tuple[str, ...]) -> str:
    """`value` as text by `codecs` (as `encodings` gives them), outer padding removed.

    Bytes that the declared set cannot hold are read as Windows-1252: a declared ISO_IR 192 with Latin-1 bytes happens.
    Control characters become blanks, so that a value stays on its line wherever it is shown.
    """
    if value.isascii() and b"\x1b" not in value:
        text = value.decode("ascii")
    elif b"\x1b" not in value or len(codecs) == 0:
        text = _strict(value, codecs[0] if codecs else UNDECLARED)
    else:
        text = "".join(_fragment(part, codecs) for part in _FRAGMENTS.findall(value))
    text = text.strip(" \0")
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text).strip()


def _fragment(part: bytes, codecs: tuple[str, ...]) -> str:
    if part[:1] != b"\x1b":
        return _strict(part, codecs[0])
    escape = part[:4] if part[1:3] in (b"$(", b"$)") else part[:3]
    codec = CODES_TO_ENCODINGS.get(escape)
    if codec is None:
        return _strict(part[len(escape) :], codecs[0])
    if codec in _STATEFUL:
        return _strict(part, codec)
    text = part[len(escape) :]
    reset = _RESETS.search(text)
    if reset is None:
        return _strict(text, codec)
    return _strict(text[: reset.start()], codec) + _strict(text[reset.start() :], codecs[0])


def _strict(value: bytes, codec: str) -> str:
    try:
        return value.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return value.decode(UNDECLARED, "replace")


def _plain(term: str) -> str:
    return re.sub(r"[\s_-]", "", term).upper()


_TERMS: Final = {_plain(term): codec for term, codec in python_encoding.items()}
