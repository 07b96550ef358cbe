"""What a bucket lacks before images move in it, in words, and the rules to copy."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.lifecycle.tier_rules import Missing
from appliance.web.language import Words


@dataclass(frozen=True, slots=True)
class RulesNote:
    """A bucket without the rules that the chosen days need; `rules` is JSON, to be copied."""

    title: str
    text: str
    rules: str


def rules_note(name: str, missing: Missing | None, words: Words) -> RulesNote | None:
    """What is to be said of the bucket of that destination; None if nothing is."""
    if missing is None:
        return None
    title, text = (
        ("tiers.unruled", "tiers.unruled_text") if missing.is_told else ("tiers.unseen", "tiers.unseen_text")
    )
    tiers = words.several([words(f"tiers.tier.{each}") for each in missing.tiers])
    return RulesNote(words(title, name=name), words(text, tiers=tiers), missing.rules)
