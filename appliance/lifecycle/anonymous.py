"""An image without whoever it is of: only what it takes to draw and measure it is copied, and everything else is left behind.

Chose a list of what is kept over the table of what is removed (PS3.15 E.1), because an attribute that nobody thought of, a private
one, or a name in a field for something else, then stays behind too; the result has all that the Basic Application Level
Confidentiality Profile asks to be removed removed, and more. Rejected: a library that applies the table, which keeps what it does not
know and remembers which UID became which.

Texts are kept where the standard gives their words, and only those words; numbers as many as it says, and tables as long as their
descriptor says, so that nothing trails behind them. Pixels are decoded, because a compressed image may
carry comments of its own, and what lies beside the stored bits is cleared, because old machines drew overlays there.

What this cannot do: say that pixels show nobody. `appliance.catalog.veil.is_clear` leaves out the kinds of image that have text in them;
teeth and faces can be recognised by whoever has another image of them. That is for the clinic's own analysis (Règlement sur
l'anonymisation, A-2.1, r. 0.1, s. 5 to 7), which the page asks for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VM
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from appliance.dicom.part10 import file_head, read_part10
from appliance.dicom.transcode import EXPLICIT, transcode
from appliance.errors import NotUnderstood
from appliance.model import Uid

NAME: Final = "ANONYMOUS"
METHOD: Final = "Only listed attributes copied"

_SIDES: Final = frozenset({"L", "R", "B", "U"})
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "Modality": frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX"}),
    "Laterality": _SIDES,
    "ImageLaterality": _SIDES,
    "FrameLaterality": _SIDES,
    "PatientPosition": frozenset({"HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"}),
    "ViewPosition": frozenset({"AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "CC", "MLO", "ML", "LM"}),
    "BodyPartExamined": frozenset(
        [
            "ABDOMEN",
            "ANKLE",
            "ARM",
            "BREAST",
            "CALCANEUS",
            "CHEST",
            "CLAVICLE",
            "COCCYX",
            "CSPINE",
            "ELBOW",
            "EXTREMITY",
            "FEMUR",
            "FINGER",
            "FOOT",
            "FOREARM",
            "HAND",
            "HEAD",
            "HIP",
            "HUMERUS",
            "JAW",
            "KNEE",
            "LEG",
            "LSPINE",
            "MANDIBLE",
            "MAXILLA",
            "NECK",
            "ORBIT",
            "PATELLA",
            "PELVIS",
            "RIB",
            "SCAPULA",
            "SHOULDER",
            "SINUS",
            "SKULL",
            "SPINE",
            "SSPINE",
            "STERNUM",
            "TEETH",
            "THIGH",
            "THUMB",
            "TIBIA",
            "TMJOINT",
            "TOE",
            "TSPINE",
            "WHOLEBODY",
            "WRIST",
            "ZYGOMA",
        ]
    ),
    "ImageType": frozenset(
        {"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "VOLUME", "NONE"}
    ),
    "FrameType": frozenset(
        {"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "VOLUME", "NONE"}
    ),
    "PhotometricInterpretation": frozenset(
        {
            "MONOCHROME1",
            "MONOCHROME2",
            "PALETTE COLOR",
            "RGB",
            "YBR_FULL",
            "YBR_FULL_422",
            "YBR_RCT",
            "YBR_ICT",
        }
    ),
    "PresentationIntentType": frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    "PresentationLUTShape": frozenset({"IDENTITY", "INVERSE"}),
    "PixelIntensityRelationship": frozenset({"LIN", "LOG", "DISP"}),
    "PixelSpacingCalibrationType": frozenset({"GEOMETRY", "FIDUCIAL"}),
    "VOILUTFunction": frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"}),
    "RescaleType": frozenset({"OD", "HU", "US", "MGML"}),
    "ModalityLUTType": frozenset({"OD", "HU", "US"}),
    "LossyImageCompression": frozenset({"00", "01"}),
    "LossyImageCompressionMethod": frozenset({"ISO_10918_1", "ISO_14495_1", "ISO_15444_1"}),
    "VolumetricProperties": frozenset({"VOLUME", "SAMPLED", "DISTORTED", "MIXED"}),
    "BurnedInAnnotation": frozenset({"NO"}),
}
"""Attributes with words, and the words that may stay."""

_NUMBERS: Final = frozenset(
    [
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
        "PlanarConfiguration",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelAspectRatio",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
        "EstimatedRadiographicMagnificationFactor",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "PixelIntensityRelationshipSign",
        "WindowCenter",
        "WindowWidth",
        "RescaleSlope",
        "RescaleIntercept",
        "LUTDescriptor",
        "RedPaletteColorLookupTableDescriptor",
        "GreenPaletteColorLookupTableDescriptor",
        "BluePaletteColorLookupTableDescriptor",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "SliceThickness",
        "SpacingBetweenSlices",
        "SliceLocation",
        "DistanceSourceToDetector",
        "DistanceSourceToPatient",
        "LossyImageCompressionRatio",
        "FrameIncrementPointer",
        "FrameTime",
    ]
)
_TABLES: Final = frozenset(
    [
        "LUTData",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
    ]
)
_SEQUENCES: Final = frozenset(
    [
        "ModalityLUTSequence",
        "VOILUTSequence",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "PixelMeasuresSequence",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "FrameVOILUTSequence",
        "PixelValueTransformationSequence",
        "CTImageFrameTypeSequence",
        "FrameAnatomySequence",
    ]
)
_MOST_IMAGES: Final = 9_999
"""A number of an image beyond this may be a date, or a file's."""
_NUMERIC_VRS: Final = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS", "AT"})
_TABLE_VRS: Final = frozenset({"US", "SS", "OW"})
_DIRECTIONS: Final = ("AP", "RL", "HF")
"""A position is of one direction of each, in any order (PS3.3 C.7.6.1.1.1)."""


def anonymous(part10: bytes, uid_of: Callable[[str], Uid]) -> bytes:
    """The Part 10 file `part10` (Explicit VR Little Endian afterwards) without whoever it is of.

    `uid_of` gives the new UID for an old one, the same for the same. Raises `Refused` when the pixels can't be decoded here and
    `NotUnderstood` when it has none.
    """
    given = read_part10(io.BytesIO(part10))
    head = file_head(
        sop_class_uid=given.sop_class_uid,
        sop_instance_uid=given.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT,
        source_ae_title="",
    )
    source = pydicom.dcmread(io.BytesIO(head + transcode(io.BytesIO(part10), EXPLICIT)))
    if "PixelData" not in source:
        raise NotUnderstood("this object has no pixels", hint="leave it out")
    made = _copied(source)
    made.SOPClassUID = str(source.SOPClassUID)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(made, keyword, uid_of(str(source[keyword].value)))
    if frame_of_reference := source.get("FrameOfReferenceUID"):
        made.FrameOfReferenceUID = uid_of(str(frame_of_reference))
    if (
        str(source.get("InstanceNumber", "")).strip().isdecimal()
        and int(source.InstanceNumber) <= _MOST_IMAGES
    ):
        made.InstanceNumber = int(source.InstanceNumber)
    made.PatientName = NAME
    made.PatientID = "A" + made.StudyInstanceUID[-12:]
    for keyword in (  # of type 2: present, and empty
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "Manufacturer",
    ):
        setattr(made, keyword, "")
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = METHOD
    made.PixelData = _clean_pixels(source)
    made["PixelData"].VR = "OB" if int(source.BitsAllocated) <= 8 else "OW"
    written = io.BytesIO()
    pydicom.dcmwrite(written, made, implicit_vr=False, little_endian=True, enforce_file_format=False)
    head = file_head(
        sop_class_uid=Uid(made.SOPClassUID),
        sop_instance_uid=Uid(made.SOPInstanceUID),
        transfer_syntax_uid=EXPLICIT,
        source_ae_title="",
    )
    return head + written.getvalue()


def _copied(source: Dataset) -> Dataset:
    made = Dataset()
    for element in source:
        keyword = element.keyword
        if keyword in _SEQUENCES and element.VR == "SQ":
            items = [item for each in element.value if (item := _copied(each))]
            if items:
                made.add_new(element.tag, "SQ", items)
        elif keyword in _TABLES:
            if element.VR in _TABLE_VRS and (table := _table(source, element)):
                made.add_new(element.tag, element.VR, table)
        elif keyword in _NUMBERS and element.VR in _NUMERIC_VRS and element.value is not None:
            if _is_as_many_as(dictionary_VM(element.tag), element.VM):
                made.add_new(element.tag, element.VR, element.value)
        elif keyword == "PatientOrientation" and element.VR == "CS":
            if positions := _positions(element.value):
                made.add_new(element.tag, "CS", positions)
        elif keyword in _WORDS and element.VR == "CS":
            words = [each for each in _texts(element.value) if each in _WORDS[keyword]]
            if words:
                made.add_new(element.tag, "CS", words)
    return made


def _is_as_many_as(multiplicity: str, values: int) -> bool:
    """Whether an attribute may have so many values (PS3.6): more than a fixed number of them may be anything."""
    return not multiplicity.isdecimal() or values <= int(multiplicity)


def _table(source: Dataset, element: DataElement) -> bytes | list[int] | None:
    """The entries of a look-up table, as many as its descriptor says (PS3.3 C.11.1.1); None where it doesn't say.

    Entries of eight bits lie two in a word, or one in each as some machines have it: then the upper half of each word is empty.
    """
    descriptor = source.get(element.keyword.replace("Data", "Descriptor"))
    if not isinstance(descriptor, (MultiValue, list)) or len(descriptor) != 3:
        return None
    if not all(isinstance(each, int) for each in descriptor):
        return None
    entries, bits = (descriptor[0] & 0xFFFF) or 0x10000, descriptor[2]
    if isinstance(element.value, bytes):
        words = np.frombuffer(element.value[: len(element.value) // 2 * 2], "<u2").copy()
    else:
        given = element.value if isinstance(element.value, (MultiValue, list)) else [element.value]
        words = np.array([int(each) & 0xFFFF for each in given if each is not None], "<u2")
    is_short = len(words) < entries
    words = words[:entries]
    if bits <= 8 and (words > 0xFF).any():
        if not is_short:  # words that are more than they say, or entries with something behind them
            raise NotUnderstood("a table of this object is not as it says", hint="leave it out")
        words = words[: (entries + 1) // 2]
        if entries % 2 and len(words) == (entries + 1) // 2:
            words[-1] &= 0xFF
    if element.VR == "OW":
        return words.tobytes()
    return [int(each) for each in (words.view("<i2") if element.VR == "SS" else words)]


def _texts(value: object) -> list[str]:
    """The values of an attribute with words, in order."""
    if isinstance(value, (MultiValue, list, tuple)):
        return [str(each) for each in value]
    return [str(value or "")]


def _positions(value: object) -> list[str]:
    """Rows and columns of an image by the directions of the body; none if one of them may be a word."""
    given = _texts(value)
    known = all(
        each
        and set(each) <= set("".join(_DIRECTIONS))
        and all(sum(each.count(end) for end in axis) <= 1 for axis in _DIRECTIONS)
        for each in given
    )
    return given if known and len(given) <= 2 else []


def _clean_pixels(source: Dataset) -> bytes:
    """The decoded pixels, with nothing in the bits that belong to none."""
    allocated, stored = int(source.BitsAllocated), int(source.BitsStored)
    pixels = bytes(source.PixelData)
    count = int(source.Rows) * int(source.Columns) * int(source.get("NumberOfFrames") or 1)
    length = count * int(source.get("SamplesPerPixel", 1)) * allocated // 8
    if str(source.PhotometricInterpretation) == "YBR_FULL_422":
        length = length * 2 // 3
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated or len(pixels) < length:
        raise NotUnderstood("the pixels of this object are not as it says", hint="leave it out")
    pixels = pixels[:length]  # what trails the last frame is nobody's
    if stored < allocated:
        if int(source.get("HighBit", stored - 1)) != stored - 1:
            raise NotUnderstood("the pixels of this object are not as it says", hint="leave it out")
        signed = int(source.PixelRepresentation) == 1
        values = np.frombuffer(pixels, dtype=f"<{'i' if signed else 'u'}{allocated // 8}")
        shift = allocated - stored
        # To the left and back: an arithmetic shift gives a signed pixel its sign again.
        pixels = np.right_shift(np.left_shift(values, shift), shift).tobytes()
    return pixels + b"\0" * (len(pixels) % 2)
