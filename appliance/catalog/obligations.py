"""What the destruction of a study leaves to others: the archives that owe their part, and whoever has images of it in clear."""

from __future__ import annotations

from appliance.catalog import destinations
from appliance.catalog.database import Reading
from appliance.catalog.erasure import Erased
from appliance.model import DestinationId
from appliance.replication.place import is_same_place


def archives(conn: Reading, erased: Erased | None = None) -> list[DestinationId]:
    """The archives that owe their part. One that was taken off the box is named too, and the place that one has left, if it may have got
    anything of `erased`, in a backup if not by itself: it can't be reached, and whoever has it must know. Unless an archive is there again.

    None for a study that this box did not know.
    """
    here = [each for each in destinations.destinations(conn) if each.takes == "ciphertext"]
    if erased is None:
        return sorted(each.id for each in here)
    left = {number: each.upto for number, each in destinations.left(conn).items()}
    gone = [
        each.id
        for each in destinations.destinations(conn, include_removed=True)
        if each.takes == "ciphertext"
        and (erased.receipts.get(each.id) or erased.study <= left.get(each.id, 0))
        and not any(each.kind == one.kind and is_same_place(each.options, one.options) for one in here)
    ]
    return sorted({*gone, *(each.id for each in here)})


def given_in_clear(conn: Reading, erased: Erased) -> dict[str, int]:
    """How many images went where in clear, by the names of those destinations."""
    everywhere = {each.id: each for each in destinations.destinations(conn, include_removed=True)}
    return {
        everywhere[number].name: count
        for number, count in sorted(erased.receipts.items())
        if count and everywhere[number].takes != "ciphertext"
    }
