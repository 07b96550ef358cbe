"""The whole command line, and the edge where errors become lines and exit codes.

Every error is one line on standard error, ``appliance: cause — remedy``, and the exit code of its class in
`appliance.errors`; a command line that is wrong in itself is 64, an interruption 130. A verb's module imports what it
works with when it is called, so that ``--help`` and a mistyped word are answered at once.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
from collections.abc import Sequence

from appliance import __version__
from appliance.cli import (
    audit_log,
    backups,
    deliveries,
    destinations,
    destructions,
    devices,
    disk,
    disk_pin,
    grants,
    guard,
    heartbeats,
    holds,
    importing,
    keys,
    notices,
    people,
    plan,
    processes,
    retention,
    rules,
    screen,
    setting_up,
    settings,
    state,
    studies,
    support,
    tiers,
    tokens,
    updates,
    verification,
    webhooks,
)
from appliance.cli.arguments import Parser, Verbs
from appliance.errors import ApplianceError

ABOUT = """\
A clinic's edge appliance: it receives images by DICOM, keeps them sealed, shows them,
and delivers them to where they are owed, with a proof for each delivery.
"""

NOTES = """\
environment:
  APPLIANCE_DATA        the data folder (default ./var)
  APPLIANCE_AE_TITLE    this box's DICOM name (default CLINICBOX)
  APPLIANCE_DICOM_PORT  where machines send to (default 11112)
  APPLIANCE_WEB_PORT    where the console is (default 8080)
  APPLIANCE_CONFIG      a TOML file with these and all other settings

'appliance VERB --help' explains a verb, with examples. Listings take --json.
"""


class Appliance(Parser):
    """The parser of the whole command; its help page lists the verbs by what one wants to do."""

    verbs: Verbs

    def format_help(self) -> str:
        """The help page, grouped."""
        pages = [f"usage: {self.prog} VERB [OPTIONS]\n", ABOUT]
        for title, verbs in self.verbs.groups:
            lines = "\n".join(f"  {name:<12}  {summary}" for name, summary in verbs)
            pages.append(f"{title}:\n{lines}\n")
        return "\n".join([*pages, NOTES])


def parser() -> Appliance:
    """The whole vocabulary of the command line."""
    root = Appliance(prog="appliance")
    root.add_argument("--version", action="version", version=f"appliance {__version__}")
    verbs = root.verbs = Verbs(root)
    verbs.group("Every day")
    state.add_to(verbs)
    studies.add_to(verbs)
    importing.add_to(verbs)
    deliveries.add_to(verbs)
    verbs.group("Set up")
    screen.add_to(verbs)
    setting_up.add_to(verbs)
    devices.add_to(verbs)
    destinations.add_to(verbs)
    rules.add_to(verbs)
    people.add_to(verbs)
    grants.add_to(verbs)
    tokens.add_to(verbs)
    settings.add_to(verbs)
    keys.add_to(verbs)
    webhooks.add_to(verbs)
    verbs.group("Look after")
    notices.add_to(verbs)
    backups.add_to(verbs)
    disk.add_to(verbs)
    guard.add_to(verbs)
    plan.add_to(verbs)
    destructions.add_to(verbs)
    verification.add_to(verbs)
    retention.add_to(verbs)
    holds.add_to(verbs)
    tiers.add_to(verbs)
    audit_log.add_to(verbs)
    support.add_to(verbs)
    heartbeats.add_to(verbs)
    updates.add_to(verbs)
    disk_pin.add_to(verbs)
    verbs.group("Processes")
    processes.add_to(verbs)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own) and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal without accents gets their numbers, not a failure
            stream.reconfigure(errors="backslashreplace")
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, 0)
    )  # a dump of memory would be patients and keys on the disk
    try:
        arguments = parser().parse_args(argv)
        code: int = arguments.act(arguments)
        sys.stdout.flush()
        return code
    except ApplianceError as error:
        print(f"appliance: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
