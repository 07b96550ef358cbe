"""Which of the proposed presentation contexts are accepted, and in which transfer syntax (PS3.8 7.1.1.13). Pure.

Chose to make this choice ourselves, because the library's unrestricted storage takes the *first* transfer syntax of a
context whatever it is, and its ordinary negotiation takes the acceptor's order and knows no unknown class. What a
router turns away at the door is a lost image: so every class is taken that is not known to be another service, and of
each context the syntax that its sender put first, except those that few others can read and the sender offers to
avoid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from appliance.model import Uid

VERIFICATION: Final = Uid("1.2.840.10008.1.1")

_STANDARD: Final = "1.2.840.10008."

# PS3.6 Table A-1: the services that are not storage. Each names itself and what is below it.
_OTHER_SERVICES: Final = tuple(
    f"{_STANDARD}{root}."
    for root in (
        "1",  # verification, media directory, commitment, event and substance logging
        "3",  # detached management, study components, MPPS
        "4",  # service classes themselves
        "10",  # real-time communication
        "5.1.1",  # print, media creation, display system
        *(f"5.1.4.1.1.200.{n}" for n in (4, 5, 6)),  # protocol approval query/retrieve
        *(f"5.1.4.1.1.201.{n}" for n in (2, 3, 4, 5, 6)),  # inventory query/retrieve and creation
        "5.1.4.1.2",  # query/retrieve
        "5.1.4.20",  # defined procedure protocol query/retrieve
        "5.1.4.31",  # modality worklist
        "5.1.4.32",  # general purpose worklist
        "5.1.4.33",  # instance availability notification
        *(f"5.1.4.34.{n}" for n in (2, 3, 4, 6, 8, 9)),  # machine verification, unified procedure step
        "5.1.4.37",  # relevant patient information
        *(f"5.1.4.{group}.{n}" for group in (38, 39, 43, 44, 45) for n in (2, 3, 4)),  # their query/retrieve
        "5.1.4.41",  # product characteristics
        "5.1.4.42",  # substance approval
    )
)
# Retired, and storage all the same: Stored Print, Hardcopy Grayscale Image, Hardcopy Color Image
_STORED_PRINT: Final = frozenset(Uid(f"{_STANDARD}5.1.1.{n}") for n in (27, 29, 30))

YIELDING: Final = frozenset(
    {
        Uid("1.2.840.10008.1.2.2"),  # Explicit VR Big Endian, retired
        Uid("1.2.840.10008.1.2.1.99"),  # Deflated Explicit VR Little Endian
        Uid("1.2.840.10008.1.2.4.94"),  # JPIP Referenced: its pixels are not in it
        Uid("1.2.840.10008.1.2.4.95"),  # JPIP Referenced Deflate
        Uid("1.2.840.10008.1.2.4.204"),  # JPIP HTJ2K Referenced
        Uid("1.2.840.10008.1.2.4.205"),  # JPIP HTJ2K Referenced Deflate
    }
)
"""Accepted, but only where the sender offers nothing else."""


class Outcome(IntEnum):
    """Result of one context (PS3.8 Table 9-18)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class Proposed:
    """One proposed presentation context, its transfer syntaxes in the sender's order."""

    context_id: int
    abstract_syntax: Uid
    transfer_syntaxes: tuple[Uid, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one proposed context; `transfer_syntax` means nothing unless accepted."""

    context_id: int
    abstract_syntax: Uid
    outcome: Outcome
    transfer_syntax: Uid


@dataclass(frozen=True, slots=True)
class Roles:
    """Which roles the requestor wants to play for one SOP class (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


def is_storage(abstract_syntax: Uid) -> bool:
    """Whether `abstract_syntax` is stored when sent: private and unknown classes are, other known services are not."""
    if not abstract_syntax or abstract_syntax in _STORED_PRINT:
        return bool(abstract_syntax)
    return not (abstract_syntax + ".").startswith(_OTHER_SERVICES)


def choose(proposed: Sequence[Proposed], roles: Mapping[Uid, Roles] | None = None) -> tuple[Answer, ...]:
    """An answer to each of `proposed`, in its order.

    `roles` are the requestor's proposals; one who will not be the user of a class has nothing to send us with it.
    """
    wanted = roles or {}
    return tuple(_answer(context, wanted.get(context.abstract_syntax)) for context in proposed)


def _answer(context: Proposed, roles: Roles | None) -> Answer:
    syntaxes = tuple(syntax for syntax in context.transfer_syntaxes if syntax)
    outcome = Outcome.ACCEPTED
    if context.abstract_syntax != VERIFICATION and not is_storage(context.abstract_syntax):
        outcome = Outcome.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not syntaxes:
        outcome = Outcome.TRANSFER_SYNTAXES_NOT_SUPPORTED
    elif roles is not None and not roles.scu:
        outcome = Outcome.USER_REJECTION
    first_of_all = syntaxes[0] if syntaxes else Uid("")
    chosen = next((syntax for syntax in syntaxes if syntax not in YIELDING), first_of_all)
    return Answer(context.context_id, context.abstract_syntax, outcome, chosen)
