"""Tooth numbers of ISO 3950 and their DICOM codes (PS3.16 CID 4018 permanent, CID 4019 deciduous), and the 18 films."""

from dataclasses import dataclass
from typing import Literal

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_PERMANENT = (
    "CentralIncisor", "LateralIncisor", "Canine", "FirstPremolar",
    "SecondPremolar", "FirstMolar", "SecondMolar", "ThirdMolar",
)  # fmt: skip
_DECIDUOUS = ("CentralIncisor", "LateralIncisor", "Canine", "FirstMolar", "SecondMolar")
_QUADRANTS = {
    1: ("Maxillary", "Right"),
    2: ("Maxillary", "Left"),
    3: ("Mandibular", "Left"),
    4: ("Mandibular", "Right"),
}


def tooth_code(tooth: int) -> Code:
    """The SNOMED code of a tooth.

    Args:
        tooth: ISO 3950 number: 11-18, 21-28, 31-38, 41-48 permanent; 51-55, 61-65, 71-75, 81-85 deciduous.

    Raises:
        ValueError: There is no such tooth.
    """
    quadrant, number = divmod(tooth, 10)
    deciduous = quadrant > len(_QUADRANTS)
    names = _DECIDUOUS if deciduous else _PERMANENT
    if not (1 <= quadrant <= 2 * len(_QUADRANTS) and 1 <= number <= len(names)):
        raise ValueError(f"no tooth has the number {tooth}")
    jaw, side = _QUADRANTS[quadrant - len(_QUADRANTS) if deciduous else quadrant]
    context = codes.cid4019 if deciduous else codes.cid4018
    prefix = "Deciduous" if deciduous else "Permanent" if jaw == "Maxillary" else ""
    keyword = f"{prefix}{jaw}{side}{names[number - 1]}Tooth"
    if keyword == "MandibularLeftLateralIncisorTooth":
        keyword = "MandibularLeftLateralTooth"  # so spelt in CID 4018
    code = getattr(context, keyword)
    assert isinstance(code, Code)
    return code


@dataclass(frozen=True)
class Film:
    """One place of a full-mouth series; teeth by ISO 3950 number, from the patient's right."""

    name: str
    teeth: tuple[int, ...]
    laterality: Literal["R", "L", "B"]
    region: Literal["Maxilla", "Mandible", "JawRegion"]

    @property
    def is_bitewing(self) -> bool:
        return self.region == "JawRegion"


FULL_MOUTH: tuple[Film, ...] = (
    Film("Molaires sup. droites", (18, 17, 16), "R", "Maxilla"),
    Film("Prémolaires sup. droites", (15, 14), "R", "Maxilla"),
    Film("Canine sup. droite", (13, 12), "R", "Maxilla"),
    Film("Incisives sup.", (11, 21), "B", "Maxilla"),
    Film("Canine sup. gauche", (22, 23), "L", "Maxilla"),
    Film("Prémolaires sup. gauches", (24, 25), "L", "Maxilla"),
    Film("Molaires sup. gauches", (26, 27, 28), "L", "Maxilla"),
    Film("Interproximale molaires droites", (17, 16, 47, 46), "R", "JawRegion"),
    Film("Interproximale prémolaires droites", (15, 14, 45, 44), "R", "JawRegion"),
    Film("Interproximale prémolaires gauches", (24, 25, 34, 35), "L", "JawRegion"),
    Film("Interproximale molaires gauches", (26, 27, 36, 37), "L", "JawRegion"),
    Film("Molaires inf. droites", (48, 47, 46), "R", "Mandible"),
    Film("Prémolaires inf. droites", (45, 44), "R", "Mandible"),
    Film("Canine inf. droite", (43, 42), "R", "Mandible"),
    Film("Incisives inf.", (41, 31), "B", "Mandible"),
    Film("Canine inf. gauche", (32, 33), "L", "Mandible"),
    Film("Prémolaires inf. gauches", (34, 35), "L", "Mandible"),
    Film("Molaires inf. gauches", (36, 37, 38), "L", "Mandible"),
)
