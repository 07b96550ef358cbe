"""The words of a command line: parsers that answer a mistake with the nearest right name.

Chose argparse, because it is in the standard library and a verb's module can own its whole vocabulary; rejected click,
which would be a second way to say the same and a dependency of the smallest install. argparse's own habit of printing
a usage block and ending the process with 2 is replaced: a mistake is `WrongCommand`, one line with its remedy.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from appliance.errors import Refused

Arguments = argparse.Namespace
HELP_COLUMNS = 78

Act = Callable[[Arguments], int]
"""What a verb does: it prints, and returns the exit code."""


class WrongCommand(Refused):
    """The command line itself is wrong: nothing was done."""

    exit_code = 64  # EX_USAGE


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint towards the word of `known` that `word` was probably meant to be, or the whole list."""
    names = sorted(known)
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else "choose from " + ", ".join(names)


def is_text(word: str) -> bool:
    """Whether `word` came as UTF-8. What didn't may name a file, but nothing in the catalog."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


class Parser(argparse.ArgumentParser):
    """A parser of one verb, whose mistakes are `WrongCommand`."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        verb = self.prog.partition(" ")[2]
        raise WrongCommand(f"{verb}: {message}" if verb else message, hint=f"see '{self.prog} --help'")

    def parse_known_args(  # type: ignore[override]  # argparse's overloads say the same in three lines
        self, args: Sequence[str] | None = None, namespace: Arguments | None = None
    ) -> tuple[Arguments, list[str]]:
        """As argparse, but words that this verb doesn't know are refused here, where the right ones are known."""
        words = list(sys.argv[1:] if args is None else args)
        self._check_options(words)
        found, strange = super().parse_known_args(words, namespace)
        for word in strange:
            if word.startswith("-") and len(word) > 1:
                raise self._no_option(word)
            raise WrongCommand(f"'{self.prog}' does not expect '{word}'", hint=f"see '{self.prog} --help'")
        for value in vars(found).values():
            for word in value if isinstance(value, list) else [value]:
                if isinstance(word, str) and not is_text(word):
                    raise WrongCommand("a word of the command is not text in UTF-8", hint="type it again")
        return found, strange

    def _check_options(self, words: Sequence[str]) -> None:
        """Refuse a mistyped option before argparse takes its value for a verb."""
        verbs = {
            name
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name in action.choices
        }
        for word in words:
            if word in verbs or word == "--":
                return
            if word.startswith("--") and word.partition("=")[0] not in self._option_string_actions:
                raise self._no_option(word)

    def _no_option(self, word: str) -> WrongCommand:
        option = word.partition("=")[0]
        options = [name for name in self._option_string_actions if name.startswith("--")]
        return WrongCommand(f"'{self.prog}' has no option {option}", hint=nearest(option, options))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Called by argparse for each value with choices, verbs included."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = "verb" if isinstance(action, argparse._SubParsersAction) else "choice"
            raise WrongCommand(f"'{self.prog}' has no {what} '{value}'", hint=nearest(str(value), known))


@dataclass
class Verbs:
    """The verbs of `parser`, in groups for its help page."""

    parser: Parser
    required: bool = True
    groups: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._choices = self.parser.add_subparsers(
            dest=f"verb_of_{self.parser.prog.replace(' ', '_')}",
            metavar="VERB",
            title="verbs",
            required=self.required,
            parser_class=Parser,
        )

    def group(self, title: str) -> None:
        """Start a group; the verbs that follow are listed under `title`."""
        self.groups.append((title, []))

    def add(
        self,
        name: str,
        summary: str,
        *,
        act: Act | None = None,
        about: str = "",
        examples: Sequence[str] = (),
    ) -> Parser:
        """Add the verb `name`; returns its parser, to be given its options.

        `summary` is its line in the list of verbs, `about` its own help page, `examples` whole command lines.
        """
        shown = f"examples:\n{chr(10).join(f'  {line}' for line in examples)}" if examples else None
        parser: Parser = self._choices.add_parser(
            name,
            help=summary,
            description=textwrap.fill(about or f"{summary[0].upper()}{summary[1:]}.", HELP_COLUMNS),
            epilog=shown,
        )
        if act is not None:
            parser.set_defaults(act=act)
        if self.groups:
            self.groups[-1][1].append((name, summary))
        return parser

    def names(self) -> list[str]:
        """The verbs, in the order in which they were added."""
        return list(self._choices.choices)


def add_json(parser: Parser, *, again: bool = False) -> None:
    """Give a listing its ``--json``; `again` when the verb above it has the option too, whose value then stands."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="print one JSON document instead of a table",
    )


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A type of argument: a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
        return number

    return parse


port = whole_number(1, 65535)
"""A type of argument: a TCP port."""
