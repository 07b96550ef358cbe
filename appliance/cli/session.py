"""What every administrator's verb needs: the box, the hour, who is asking, and a secret that is never an argument."""

from __future__ import annotations

import getpass
import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from appliance.cli.arguments import is_text
from appliance.config import load_config
from appliance.errors import OperatorNeeded, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.audit import Outcome
    from appliance.box import Box
    from appliance.catalog import Transaction

_KEY_CHARACTERS: Final = 20_000


@contextmanager
def opened_box() -> Iterator[Box]:
    """The box that the environment describes, closed afterwards. Raises what `open_box` raises."""
    from appliance import local_time, settings
    from appliance.box import open_box

    box = open_box(load_config(os.environ))
    try:
        with box.catalog.reading() as conn:
            local_time.follow(str(settings.get(conn, local_time.SETTING)))
        yield box
    finally:
        box.close()


def now() -> datetime:
    """The hour, in UTC."""
    return datetime.now(UTC)


def actor() -> str:
    """Who is at the command line, for the audit: the account that logged in, not the one of sudo."""
    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
    return f"command line: {name}"


def record(
    tx: Transaction,
    box: Box,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
    *,
    study: str = "",
    outcome: Outcome | None = None,
) -> None:
    """Write into the audit, in the transaction of the act itself, what the person at the command line did."""
    from appliance import audit

    entry = audit.Entry(
        action,
        subject,
        actor(),
        dict(details or {}),
        study=study,
        actor_kind=audit.ActorKind.PERSON,
        outcome=outcome,
    )
    audit.append(tx, box.audit_key, [entry], now())


def read_line(prompt: str) -> str:
    """A line from a person at the terminal, or the first one of standard input. Raises `Refused` when it is empty."""
    try:
        if sys.stdin.isatty():
            print(f"{prompt}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
    except UnicodeDecodeError as error:
        raise _no_text(prompt) from error
    if not is_text(line):
        raise _no_text(prompt)
    if not line:
        raise Refused(
            f"no {prompt.lower()} was given",
            hint="type it when asked, or send it to standard input as one line",
        )
    return line


def read_secret(prompt: str, *, file: Path | None = None, confirm: bool = False) -> str:
    """A secret from `file`, from a person at the terminal (not echoed), or the first line of standard input.

    `confirm` asks a person twice. Raises `Refused` when it is empty, or typed differently twice; `OperatorNeeded` when
    the file can't be read or everybody else can.
    """
    if file is not None:
        secret = _secret_of(file, lambda stream: stream.readline())
    elif sys.stdin.isatty():
        secret = getpass.getpass(f"{prompt}: ")
        if confirm and getpass.getpass(f"{prompt}, once more: ") != secret:
            raise Refused("the two were not the same", hint="try again; nothing was changed")
    else:
        try:
            secret = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise _no_text(prompt) from error
    secret = secret.rstrip("\r\n")
    if not is_text(secret):
        raise _no_text(prompt)
    if not secret:
        raise Refused(
            f"no {prompt.lower()} was given",
            hint="type it when asked, or send it to standard input as one line",
        )
    return secret


def read_private_key(file: Path) -> str:
    """A private key, which has several lines. Raises as `read_secret`."""
    return _secret_of(file, lambda stream: stream.read(_KEY_CHARACTERS))


def _no_text(prompt: str) -> Refused:
    return Refused(f"the {prompt.lower()} is not text in UTF-8", hint="send it as one line of text")


def _secret_of(file: Path, read: Callable[[TextIO], str]) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & stat.S_IROTH:
                raise OperatorNeeded(f"everybody can read {file}", hint=f"chmod 600 {file}")
            return read(stream)
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorNeeded(
            f"the secret file {file} cannot be read", hint="check its name and permissions"
        ) from error
