"""A mistyped command line is answered in one line, with the nearest right name, and nothing is done."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli.arguments import Parser
from appliance.cli.command import parser
from tests.cli.conftest import Say

LISTINGS = (
    "studies",
    "deliveries",
    "deliveries list",
    "device list",
    "destination list",
    "rule list",
    "user list",
    "verify",
    "audit verify",
    "status",
)


def every_parser(root: Parser) -> Iterator[Parser]:
    """`root` and the parsers of all verbs below it."""
    yield root
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                assert isinstance(below, Parser)
                yield from every_parser(below)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["studys"], "studies"),
        (["deliverys"], "deliveries"),
        (["device", "ad"], "add"),
        (["deliveries", "--stat", "FAILED"], "--state"),
        (["deliveries", "list", "--jsn"], "--json"),
        (
            ["destination", "add", "s3", "cloud", "--buckett", "b", "--bucket", "b", "--region", "r"],
            "--bucket",
        ),
        (["deliveries", "--state", "WAITIN"], "WAITING"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest_right_one(
    say: Say, typed: list[str], meant: str
) -> None:
    outcome = say(*typed)
    assert outcome.code == 64
    assert f"did you mean {meant}?" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not outcome.out


@pytest.mark.parametrize(
    "typed", [[], ["device"], ["device", "add"], ["rule", "add", "--to"], ["export", "x"], ["status", "more"]]
)
def test_an_incomplete_line_says_where_the_help_is(say: Say, data_dir: Path, typed: list[str]) -> None:
    outcome = say(*typed)
    assert outcome.code == 64
    assert "--help'" in outcome.err
    assert outcome.err.startswith("appliance: ")
    assert list(data_dir.iterdir()) == [], "a wrong line must not even open the box"


@pytest.mark.parametrize(
    "typed",
    [
        ["studies", "x\udcff"],
        ["export", "x\udcff", "--to", "out"],
        ["destination", "pause", "x\udcff"],
        ["destination", "add", "folder", "hand-over", "--path", "/srv/x\udcff"],
        ["rule", "add", "--to", "x\udcff"],
        ["device", "add", "--ae-title", "PANO1", "--address", "10.0.0.1", "--name", "x\udcff"],
        ["deliveries", "--study", "x\udcff"],
    ],
)
def test_a_word_that_is_no_text_is_refused_in_one_line(say: Say, typed: list[str]) -> None:
    done = say(*typed)
    assert done.code in (64, 65)
    assert "not text in UTF-8" in done.err
    assert done.err.count("\n") == 1


def test_an_option_is_never_guessed_from_its_beginning(say: Say) -> None:
    assert say("device", "list", "--js").code == 64


@pytest.mark.parametrize("listing", LISTINGS)
def test_every_listing_has_json(listing: str) -> None:
    found = next(each for each in every_parser(parser()) if each.prog == f"appliance {listing}")
    assert "--json" in found._option_string_actions


def test_every_verb_and_option_is_explained() -> None:
    for each in every_parser(parser()):
        text = each.format_help()
        assert max(len(line) for line in text.splitlines()) <= 115, each.prog
        for action in each._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), f"{each.prog} {action.dest}"


def test_the_help_page_lists_every_verb_once() -> None:
    root = parser()
    listed = [verb for _, verbs in root.verbs.groups for verb, _ in verbs]
    assert listed == root.verbs.names()
    assert len(listed) == len(set(listed))


def test_the_examples_in_the_help_are_right() -> None:
    """Each example is parsed by the very parser that it explains."""
    root = parser()
    seen = 0
    for each in every_parser(root):
        lines = (each.epilog or "").replace("\\\n", " ").splitlines()[1:]
        for line in lines:
            words = _words(line)
            while words and "=" in words[0] and not words[0].startswith("-"):
                words.pop(0)
            assert words.pop(0) == "appliance", line
            root.parse_args(words)
            seen += 1
    assert seen > 25


def _words(line: str) -> list[str]:
    """The words of a shell line, without its redirections."""
    import shlex

    return [word for word in shlex.split(line) if not word.startswith(("<", ">"))]


def test_help_needs_no_box_and_ends_with_success(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from appliance.cli import main

    monkeypatch.setenv("APPLIANCE_DATA", str(data_dir))
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "Every day:" in capsys.readouterr().out
    assert list(data_dir.iterdir()) == []
