"""Reads a QR code as a telephone does (ISO/IEC 18004), for want of a light library that does: of up to 6 versions, undamaged.

Written from the standard's figures and not with the library that draws them, so that the two hold each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Modules = Sequence[Sequence[bool]]

_HALVES = {" ": (True, True), "▀": (False, True), "▄": (True, False), "█": (False, False)}
"""On a dark screen what is drawn is light: whether the upper and the lower half are dark modules."""

_MASKS = (
    lambda row, column: (row + column) % 2 == 0,
    lambda row, column: row % 2 == 0,
    lambda row, column: column % 3 == 0,
    lambda row, column: (row + column) % 3 == 0,
    lambda row, column: (row // 2 + column // 3) % 2 == 0,
    lambda row, column: row * column % 2 + row * column % 3 == 0,
    lambda row, column: (row * column % 2 + row * column % 3) % 2 == 0,
    lambda row, column: ((row + column) % 2 + row * column % 3) % 2 == 0,
)
"""Table 10."""

_IN_ONE_BLOCK = {1: "LMQH", 2: "LMQH", 3: "LM", 4: "L", 5: "L"}
"""Which levels of correction keep the data in one piece, by version (table 9)."""


def on_screen(lines: Sequence[str]) -> Modules:
    """The modules of a picture in half blocks, without the quiet zone around them."""
    width = max(map(len, lines))
    rows: list[list[bool]] = []
    for line in lines:
        halves = [_HALVES[each] for each in line.ljust(width)]
        rows += [[upper for upper, _ in halves], [lower for _, lower in halves]]
    del rows[width:]  # an odd number of rows leaves half a line over
    dark = [(row, column) for row, line in enumerate(rows) for column, is_dark in enumerate(line) if is_dark]
    top, left = min(row for row, _ in dark), min(column for _, column in dark)
    size = max(column for _, column in dark) - left + 1
    return [row[left : left + size] for row in rows[top : top + size]]


def text_of(modules: Modules) -> str:
    """What it says."""
    size = len(modules)
    version = (size - 17) // 4
    assert size == 17 + 4 * version and all(len(row) == size for row in modules), (
        "a square of a size that there is"
    )
    level, mask = _format(modules)
    assert level in _IN_ONE_BLOCK.get(version, ""), (version, level)
    bits = "".join(
        str(int(modules[row][column] != _MASKS[mask](row, column))) for row, column in _path(size, version)
    )
    assert bits[:4] == "0100", "bytes"
    length = int(bits[4:12], 2)
    return bytes(int(bits[12 + 8 * at : 20 + 8 * at], 2) for at in range(length)).decode("ascii")


def _format(modules: Modules) -> tuple[str, int]:
    """The level of correction and the mask (7.9), which stand beside the finder at the upper left."""
    places = [
        *((8, column) for column in (0, 1, 2, 3, 4, 5, 7, 8)),
        *((row, 8) for row in (7, 5, 4, 3, 2, 1, 0)),
    ]
    written = int("".join(str(int(modules[row][column])) for row, column in places), 2) ^ 0b101010000010010
    return "MLHQ"[written >> 13], written >> 10 & 7


def _path(size: int, version: int) -> Iterator[tuple[int, int]]:
    """The modules of data in their order: two columns at a time from the right, up and down in turn (7.7.3)."""
    upwards = True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for row in range(size - 1, -1, -1) if upwards else range(size):
            for column in (right, right - 1):
                if not _is_pattern(row, column, size, version):
                    yield row, column
        upwards = not upwards


def _is_pattern(row: int, column: int, size: int, version: int) -> bool:
    """Finders with what is beside them, timing, and the one alignment pattern of versions 2 to 6."""
    near, far = range(9), range(size - 8, size)
    if (row in near and (column in near or column in far)) or (row in far and column in near):
        return True
    middle = size - 7
    aligns = version > 1 and abs(row - middle) <= 2 and abs(column - middle) <= 2
    return row == 6 or column == 6 or aligns
