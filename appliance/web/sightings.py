"""What somebody sees of patients, in the audit: folded, so that looking around leaves a row and not a thousand.

=================  ==================================================  ================================================
word               when                                                written once per session and
=================  ==================================================  ================================================
``study:view``     a study's page, or an image at full size            page; for images and parts of the page: study, 30 min
``study:list``     a list; its row ids are among the details           30 min, as long as it shows no other study
``study:search``   the same, after somebody typed or chose something   minute, as long as it shows no other study
``study:glimpse``  a small picture that no list has led to             study, 30 min
=================  ==================================================  ================================================

Chose to fold by session and study, because who saw whose images is what a patient asks (P-39.1 s.27), and not how
often a browser fetched them. What cannot be recorded is not shown: the error of the catalog goes on to the visitor.

A row that came through a veil has no UID: the audit looks for it, because it must say which study was seen all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.catalog import sight
from appliance.errors import ApplianceError
from appliance.web import access, forms
from appliance.web.console import console


def opened(
    study_id: int, study_instance_uid: str, *, instance: int | None = None, anew: bool = False
) -> None:
    """A study was opened, or its image `instance`. `anew`: a person asked for the whole page once more."""
    console_, session = console(), access.visit()
    console_.glimpsed.first((session, study_id))  # the strips of thumbnails are part of what was opened
    if anew:
        console_.viewed.forget((session, study_id))
    console_.record_once(
        console_.viewed,
        (session, study_id),
        "study:view",
        f"study:{study_id}",
        forms.actor(),
        None if instance is None else {"instance": instance},
        study=study_instance_uid or _uid(study_id),
    )


def glimpsed(study_id: int, study_instance_uid: str, *, instance: int) -> None:
    """A small picture of a study was asked for."""
    console_ = console()
    console_.record_once(
        console_.glimpsed,
        (access.visit(), study_id),
        "study:glimpse",
        f"study:{study_id}",
        forms.actor(),
        {"instance": instance},
        study=study_instance_uid or _uid(study_id),
    )


def listed(study_ids: Iterable[int], *, searched: bool, where: str = "console") -> None:
    """A list of studies was shown, found by a search or not."""
    console_, session, shown = console(), access.visit(), tuple(study_ids)
    fresh = [each for each in shown if console_.glimpsed.first((session, each))]
    asked = console_.searched.first(session) if searched else console_.viewed.first((session, where))
    if not fresh and not asked:
        return
    try:
        word = "study:search" if searched else "study:list"
        console_.record_alone(word, where, forms.actor(), {"rows": len(shown), "studies": fresh})
    except ApplianceError:
        for each in fresh:
            console_.glimpsed.forget((session, each))
        (console_.searched if searched else console_.viewed).forget(session if searched else (session, where))
        raise


def _uid(study_id: int) -> str:
    with console().box.catalog.reading() as conn:
        return sight.uid_for_audit(conn, study_id)
