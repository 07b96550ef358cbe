"""``appliance plan``: the disaster recovery plan of this box, to read, and to print and keep elsewhere."""

from __future__ import annotations

import textwrap
from pathlib import Path

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, safe
from appliance.cli.session import actor, now, opened_box, record
from appliance.errors import OperatorNeeded
from appliance.settings.registry import LANGUAGES


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    plan = verbs.add(
        "plan",
        "the disaster recovery plan: what to do when the box is gone",
        act=show_plan,
        about="Made from how this box is set up at this moment and from what the last restore drill has measured. It names "
        "places, machines and people, no secret and no patient. Print it, and keep it away from the box.",
        examples=["appliance plan", "appliance plan --language fr --pdf plan-de-reprise.pdf"],
    )
    plan.add_argument("--language", choices=LANGUAGES, default="en", help="in which language (default en)")
    plan.add_argument(
        "--pdf", type=Path, metavar="FILE", help="write it as a PDF, which must not be there yet"
    )
    add_json(plan)


def show_plan(arguments: Arguments) -> int:
    """Print the plan, or write it as a PDF."""
    from appliance.backup import disaster_plan
    from appliance.web import papers
    from appliance.web.console import web_ui
    from appliance.web.language import Languages
    from appliance.web.plan_words import worded

    languages = Languages(web_ui() / "languages")
    with opened_box() as box:
        paper = worded(disaster_plan.gather(box, actor(), now()), languages.words(arguments.language))
        if arguments.pdf is not None:
            data = papers.report(languages, arguments.language, paper)
            try:
                with arguments.pdf.open("xb") as file:
                    file.write(data)
            except OSError as error:
                raise OperatorNeeded(
                    f"the plan could not be written ({error.strerror})",
                    hint="name a new file in a folder that is there",
                ) from error
        with box.catalog.transaction() as tx:
            record(tx, box, "plan:print", "plan", {"language": arguments.language})
    if arguments.pdf is not None:
        print(f"The plan is in {safe(str(arguments.pdf))}: print it, and keep it away from the box.")
    elif arguments.json:
        as_json(
            {
                "made": paper.made,
                "verdict": paper.verdict,
                "sections": [
                    {
                        "title": each.title,
                        "lines": [{"label": line.label, "text": line.text} for line in each.lines],
                    }
                    for each in paper.sections
                ],
            }
        )
    else:
        print("\n".join([_plain(paper.title), _plain(paper.made), "", _plain(paper.verdict)]))
        for section in paper.sections:
            print(f"\n{_plain(section.title)}")
            for line in section.lines:
                for number, part in enumerate(f"{line.label}: {line.text}".split("\n")):
                    indent = "    " if number else ""
                    said = textwrap.wrap(_plain(part), 100, initial_indent=indent, subsequent_indent="    ")
                    print("\n".join(f"  {each}" for each in said))
    return 0


def _plain(text: str) -> str:
    """`text` for a terminal, where a space that keeps words together is a space."""
    return safe(text.replace("\u00a0", " ").replace("\u202f", " "))
