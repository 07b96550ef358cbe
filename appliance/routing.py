"""Rules to obligations: which destinations are owed an instance. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.model import DestinationId, Header, Origin, Owed, Rule


def matches(rule: Rule, header: Header, origin: Origin) -> bool:
    """Whether `rule` speaks of this instance: by the device that sent it and by its modality, where it names them.

    Modality is compared as CS is (PS3.5 6.2): upper case, outer spaces not significant.
    """
    if rule.device is not None and rule.device != origin.name.strip():
        return False
    return rule.modality is None or rule.modality.strip().upper() == header.modality.strip().upper()


def deliveries_for(
    header: Header, origin: Origin, rules: Sequence[Rule], *, duplicate: bool = False
) -> tuple[Owed, ...]:
    """What is owed for one instance: one delivery a destination, at the highest priority of the rules that match.

    A `duplicate` (other bytes under a known identity) goes only where ciphertext goes: the replica keeps both, and
    no archive is sent a second version until a person has decided (dicom-interop rule 4).
    """
    owed: dict[DestinationId, int] = {}
    for rule in rules:
        if duplicate and rule.takes != "ciphertext":
            continue
        if matches(rule, header, origin):
            known = owed.get(rule.destination_id)
            owed[rule.destination_id] = rule.priority if known is None else max(known, rule.priority)
    return tuple(Owed(destination_id, priority) for destination_id, priority in owed.items())
