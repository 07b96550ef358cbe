"""What the last reading of everything found damaged or missing: stored images, here and in buckets, the disk, and pages of the catalog."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Contents, Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = (
    "damaged",
    "disk-unreadable",
    "bucket-lacks",
    "bucket-altered",
    "manifests-unread",
    "catalog-damaged",
)


def check(facts: Facts) -> Iterator[Problem]:
    """A replica has the images still, if there is one. Pages of the catalog come back with a restore only."""
    if facts.contents and facts.contents.damaged:
        yield Problem(
            "damaged",
            f"{facts.contents.damaged} stored images were found damaged or missing",
            "run 'appliance verify --all', and bring them back from a replica",
            Severity.NOW,
        )
    if facts.contents and facts.contents.unread_in_a_row:
        yield Problem(
            "disk-unreadable",
            f"the disk did not give back {facts.contents.unread_in_a_row} stored images in a row: reading everything again stops there",
            "call support today: the disk or its cable may be failing; remove nothing",
            Severity.NOW,
        )
    for name, count in facts.contents.kept_back if facts.contents else ():
        yield Problem(
            "disk-unreadable",
            f"images that {name} holds and does not give back: {count}; no other archive has given them back",
            "look at that disk and its cable, and remove nothing from it; some of them are asked for again each day, and all once it gives them back",
            Severity.NOW,
            subject=name,
        )
    for name, count in facts.contents.unread_manifests if facts.contents else ():
        yield Problem(
            "manifests-unread",
            f"study manifests in {name} that did not open when this box was restored: {count}; images that only they speak of are not known here",
            "if it is a disk, look at its plug and its cable, and leave it on: they are tried again each day; where a later recovery key was printed"
            " than the one that was typed, restore anew with that; remove nothing there",
            Severity.NOW,
            subject=name,
        )
    for name in facts.contents.not_looked_through if facts.contents else ():
        yield Problem(
            "manifests-unread",
            f"{name} was not looked through since this box was restored: images that only it knows of are not known here",
            "connect it, or resume it under Destinations, leave it on, and make room where this disk is full: it is looked through by itself;"
            " where a later recovery key was printed than the one that was typed, restore anew with that; one that is gone for good: pause it, then remove it",
            Severity.NOW,
            subject=name,
            acts=(Act(Verb.SEE_DESTINATIONS),),
        )
    for name, count in facts.contents.lying_deep if facts.contents else ():
        yield Problem(
            "manifests-unread",
            f"study manifests in {name} name images that lie in deep archive and are not known here yet: {count}",
            "nothing is to be done: they were asked for and come by themselves, within hours or days",
            Severity.SOON,
            subject=name,
        )
    for name in _not_read_again(facts.contents) if facts.contents else ():
        yield Problem(
            "disk-unreadable",
            f"{name} did not give back several copies of stored images: not all of its copies are read again",
            "look at that disk and its cable, and back up to another one if it goes on; the images on the box are not touched",
            Severity.NOW,
            subject=name,
        )
    for name, count in facts.contents.lost_in if facts.contents else ():
        yield Problem(
            "bucket-lacks",
            f"{count} images that are not on this box are gone from {name} or altered there, and no other archive has them whole",
            "ask whoever owns that storage at once whether they can be brought back; the audit names each image",
            Severity.NOW,
            subject=name,
        )
    for each in facts.contents.altered_in if facts.contents else ():
        yield Problem(
            "bucket-altered",
            f"images written over or removed in {each.destination} by something other than this box: {each.count}"
            f" (found first on {each.first}, last on {each.last}); they are not lost, and the box writes them there again",
            "somebody else may have the key of that storage: change its access key today, under Destinations, and ask its owner who had it;"
            " the audit names each image",
            Severity.NOW,
            subject=each.destination,
            acts=(Act(Verb.SEE_DESTINATIONS),),
        )
    if facts.contents and facts.contents.catalog_damage:
        yield Problem(
            "catalog-damaged",
            "pages of the index were found damaged when it was read from end to end",
            "call support today: the box is restored from its newest backup, on another disk; remove nothing",
            Severity.NOW,
        )


def _not_read_again(contents: Contents) -> list[str]:
    """The disks that did not give back several copies, without those of which worse is said."""
    worse = {name for name, _ in contents.kept_back}
    return [name for name in contents.unread_disks if name not in worse]
