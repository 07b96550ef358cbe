"""A box with people in it, and a mail server that it uses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import settings
from appliance.box import Box
from appliance.catalog import people
from tests.boxes import box_in
from tests.notify.mail_room import MailRoom, mail_room

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
SENDER = "boitier@clinique.example"
PEOPLE = (
    ("marie@clinique.example", "Marie Tremblay", "owner", "fr"),
    ("luc@clinique.example", "Luc Roy", "privacy_officer", "fr"),
    ("ana", "Ana Silva", "assistant", "en"),
    ("tom@clinique.example", "Tom Baker", "technician", "en"),
)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as opened:
        with opened.catalog.transaction() as tx:
            for login, name, role, language in PEOPLE:
                people.add(
                    tx, login=login, name=name, role=role, password_hash="-", language=language, now=NOW
                )
        yield opened


@pytest.fixture
def room(box: Box) -> Iterator[MailRoom]:
    """A mail server without encryption, set in the box."""
    with mail_room() as opened:
        use_mail(box, opened.port, security="none")
        yield opened


def use_mail(box: Box, port: int, **others: object) -> None:
    """Set a mail server of this machine; `others` are settings without their section."""
    chosen = {"host": "localhost", "port": port, "from": SENDER, **others}
    with box.catalog.transaction() as tx:
        settings.change(
            tx,
            box.audit_key,
            {f"mail.{key}": value for key, value in chosen.items()},
            actor="tests",
            now=NOW,
            root=box.root,
        )
