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
from appliance.web import access, forms
from appliance.web.console import console


def opened(
    study_id: int, study_instance_uid: str, *, instance: int | None = None, anew: bool = False
) -> None:
    """A study was opened, or its image `instance`. `anew`: a person asked for the whole page once more."""
    console_, session = console(), access.visit()
    subject, uid = f"study:{study_id}", study_instance_uid or _uid(study_id)
    details = None if instance is None else {"instance": instance}
    what = (session, study_id)
    with console_.glimpsed.fresh([what]):  # the strips of thumbnails are part of what was opened
        if anew:
            console_.record_alone("study:view", subject, forms.actor(), details, study=uid)
            console_.viewed.note(what)
        else:
            console_.record_once(
                console_.viewed, what, "study:view", subject, forms.actor(), details, study=uid
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
    lists, this = (console_.searched, session) if searched else (console_.viewed, (session, where))
    studies = {(session, each): each for each in shown}
    with lists.fresh([this]) as asked, console_.glimpsed.fresh(studies) as unseen:
        if asked or unseen:
            word = "study:search" if searched else "study:list"
            fresh = [studies[each] for each in studies if each in unseen]
            console_.record_alone(word, where, forms.actor(), {"rows": len(shown), "studies": fresh})


def _uid(study_id: int) -> str:
    with console().box.catalog.reading() as conn:
        return sight.uid_for_audit(conn, study_id)
