"""Invented patients of an invented clinic in Québec, and the words that would betray them on a disk.

Chose a fixed cast because a test that looks for *Hélène* must know that she is there; rejected names drawn from the seed,
which would make every expected value a computation. Ids have the shape of a RAMQ number, but with a day of birth of 00, so
that none can be a real person's.
"""

from dataclasses import dataclass
from typing import Literal

CharacterSet = Literal["ISO_IR 100", "ISO_IR 192"]
PYTHON_CODEC: dict[CharacterSet, str] = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}


@dataclass(frozen=True)
class Patient:
    """One invented person; `name` is a PN value, `birth_date` a DA value, `sex` one of PS3.3 C.7.1.1."""

    name: str
    id: str
    birth_date: str
    sex: Literal["F", "M", "O"]
    character_set: CharacterSet

    @property
    def family_name(self) -> str:
        return self.name.split("^")[0]

    @property
    def given_name(self) -> str:
        return self.name.split("^")[1]


HELENE = Patient("Côté-Lévesque^Hélène", "COTH84620017", "19841219", "F", "ISO_IR 100")
FRANCOIS = Patient("Gagné^François-Xavier", "GAGF71030024", "19710311", "M", "ISO_IR 192")
ZOE = Patient("Bélanger^Zoé", "BELZ09550031", "20090502", "F", "ISO_IR 192")
ANDRE = Patient("Thériault-Gauvreau^André", "THEA52080048", "19520817", "M", "ISO_IR 100")
MAELLE = Patient("Noël-Düsing^Maëlle", "NOEM98610055", "19981104", "F", "ISO_IR 100")

PATIENTS: tuple[Patient, ...] = (HELENE, FRANCOIS, ZOE, ANDRE, MAELLE)
"""Everyone the sets are about."""

MARKERS: tuple[str, ...] = tuple(
    word for patient in PATIENTS for word in (patient.id, patient.family_name, patient.given_name)
)
"""Strings that occur in the sets as patients' names and ids, and nowhere else."""


def named_in(text: str) -> set[str]:
    """The markers that stand in `text`, in any case. It must be in the clear: without escapes, not packed."""
    return {marker for marker in MARKERS if marker.casefold() in text.casefold()}


def marker_bytes() -> frozenset[bytes]:
    """Every marker in each encoding a leak could have: Latin-1, UTF-8, UTF-16 and JSON's `\\uXXXX`.

    Markers shorter than 6 bytes are left out: random ciphertext would contain them by chance.
    """
    forms = {
        form
        for marker in MARKERS
        for form in (
            marker.encode("latin-1"),
            marker.encode("utf-8"),
            marker.encode("utf-16-le"),
            marker.encode("unicode_escape"),
        )
    }
    return frozenset(form for form in forms if len(form) >= 6)
