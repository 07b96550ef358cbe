"""An image without whoever it is of: only what it takes to draw and measure it is copied, and everything else is left behind.

Chose a list of what is kept over the table of what is removed (PS3.15 E.1), because an attribute that nobody thought of, a private
one, or a name in a field for something else, then stays behind too; the result has all that the Basic Application Level
Confidentiality Profile asks to be removed removed, and more. Rejected: a library that applies the table, which keeps what it does not
know and remembers which UID became which.

Texts are kept where the standard gives their words, and only those words. Pixels are decoded, because a compressed image may
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
    "PatientOrientation": frozenset({"A", "P", "R", "L", "H", "F"}),
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
        "LUTData",
        "RedPaletteColorLookupTableDescriptor",
        "GreenPaletteColorLookupTableDescriptor",
        "BluePaletteColorLookupTableDescriptor",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
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
_NUMERIC_VRS: Final = frozenset(
    {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS", "AT", "OW", "US or SS"}
)


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
        elif keyword in _NUMBERS and element.VR in _NUMERIC_VRS and element.value is not None:
            made.add_new(element.tag, element.VR, element.value)
        elif keyword in _WORDS and element.VR == "CS":
            words = _known_words(keyword, element.value)
            if words:
                made.add_new(element.tag, "CS", words)
    return made


def _known_words(keyword: str, value: object) -> list[str]:
    """Those of the list, in order. A position in PatientOrientation is made of several of them."""
    given = (
        [str(each) for each in value] if isinstance(value, (MultiValue, list, tuple)) else [str(value or "")]
    )
    if keyword == "PatientOrientation":
        return given if all(each and set(each) <= _WORDS[keyword] for each in given) else []
    return [each for each in given if each in _WORDS[keyword]]


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
