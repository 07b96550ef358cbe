"""``appliance setup``: the wizard without a browser, from an answers file; the same file twice is the same box."""

from __future__ import annotations

from pathlib import Path

from appliance.cli.arguments import Arguments, Verbs, WrongCommand, add_json
from appliance.cli.listing import as_json, safe
from appliance.cli.session import actor, opened_box, read_secret
from appliance.errors import OperatorNeeded


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    setup = verbs.add(
        "setup",
        "set the box up from a file of answers, as the console's wizard does",
        act=set_up,
        about="Answers stand in a TOML file; secrets in files of their own, which it names, or '-' for standard "
        "input. Run it as often as you like: what is so already is kept. The test study needs the appliance to run.",
        examples=["appliance setup --example >answers.toml", "appliance setup answers.toml"],
    )
    setup.add_argument("answers", nargs="?", type=Path, metavar="FILE", help="the answers")
    setup.add_argument("--example", action="store_true", help="print a file of answers to begin with")
    add_json(setup)


def set_up(arguments: Arguments) -> int:
    """Do every step that is answered; the exit code is the first failure's."""
    from appliance.wizard import answers, headless, trial

    if arguments.example:
        print(answers.EXAMPLE, end="")
        return 0
    if arguments.answers is None:
        raise WrongCommand("setup needs a file of answers", hint="print one: appliance setup --example")
    wanted = answers.parse(_text_of(arguments.answers))

    def secret(prompt: str, name: str) -> str:
        if name == "-":
            return read_secret(prompt)
        return read_secret(prompt, file=arguments.answers.parent / Path(name).expanduser())

    from appliance.imaging import Darkroom, View

    darkroom = Darkroom(1)
    found: list[headless.Outcome] = []
    try:
        with opened_box() as box:
            picture = trial.picture_by(box, lambda reader, size: darkroom.render(reader, size, View()))
            for outcome in headless.run(box, wanted, secret, picture, actor()):
                found.append(outcome)
                if not arguments.json:
                    words = f"  {safe(outcome.words)}" if outcome.words else ""
                    print(f"{outcome.step:<10}  {outcome.ending:<7}{words}", flush=True)
    finally:
        darkroom.close()
    if arguments.json:
        as_json([{"step": each.step, "outcome": each.ending, "words": each.words} for each in found])
    return next((each.exit_code for each in found if each.exit_code), 0)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorNeeded(
            f"the answers in {path} cannot be read", hint="check its name and permissions"
        ) from error
