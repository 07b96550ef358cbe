"""How the demonstration speaks: steps, sentences, a line of progress, a table. Plain text where there is no terminal."""

import os
import sys
from collections.abc import Container, Mapping, Sequence

TERMINAL = sys.stdout.isatty()
COLOUR = TERMINAL and "NO_COLOR" not in os.environ


def step(text: str) -> None:
    """A new act."""
    print(f"\n{_bold('▸ ' + text)}", flush=True)


def say(text: str) -> None:
    """A sentence."""
    for line in text.splitlines():
        print(f"  {line}", flush=True)


class Line:
    """Progress of `total` things through `stages`: redrawn in a terminal, a line at the end elsewhere."""

    def __init__(self, what: str, total: int, stages: Sequence[str]) -> None:
        self._what = what
        self._total = total
        self._stages = stages
        self._last = ""
        self._text = ""

    def note(self, text: str) -> None:
        """A sentence above the line."""
        print(f"\r\033[K  {text}" if TERMINAL else f"  {text}", flush=True)
        self._last = ""

    def show(self, reached: Mapping[str, int]) -> None:
        """Show how many have reached each stage; only a terminal can redraw it."""
        parts = [f"{name} {self._count(reached.get(name, 0))}" for name in self._stages]
        self._text = f"  {self._total} {self._what}: " + " → ".join(parts)
        if TERMINAL and self._text != self._last:
            print(f"\r\033[K{self._text}", end="", flush=True)
            self._last = self._text

    def done(self) -> None:
        """End the line."""
        print(f"\r\033[K{self._text}" if TERMINAL else self._text, flush=True)

    def _count(self, count: int) -> str:
        text = f"{count:>{len(str(self._total))}}"
        return f"\033[32m{text}\033[0m" if COLOUR and count == self._total else text


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Container[int]) -> None:
    """A table; the columns in `right` are set to the right."""
    widths = [max(len(line[index]) for line in [headings, *rows]) for index in range(len(headings))]
    for number, line in enumerate([headings, *rows]):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text = "  ".join(cells).rstrip()
        print(f"  {_bold(text) if number == 0 else text}", flush=True)


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if COLOUR else text
