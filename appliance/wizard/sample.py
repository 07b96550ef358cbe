"""The test study: a panoramic that nobody was exposed for, drawn here, and unmistakable as such.

A Digital X-Ray image for presentation (PS3.3 A.26) of modality PX, as panoramic machines send it: 16 bits, explicit
VR little endian, 1.5 MB. Its patient is ``TEST^CLINICBOX``; the picture says TEST in letters as high as a jaw, and
``(0008,0005)`` to the pixels are all plain ASCII, so that no receiver can stumble over them.

The same UIDs give the same bytes: what comes back from a bucket is compared with what is drawn once more, so the
comparison needs no copy that could have been lost together with the original.
"""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from appliance.model import Uid

PATIENT_ID: Final = "CLINICBOX-TEST"
PATIENT_NAME: Final = "TEST^CLINICBOX"
DESCRIPTION: Final = "Test study of this box - no patient"
SOP_CLASS: Final = Uid("1.2.840.10008.5.1.4.1.1.1.1")
TRANSFER_SYNTAX: Final = Uid(ExplicitVRLittleEndian)
COLUMNS: Final = 1220
ROWS: Final = 610
MOST_GREY: Final = 4095


@dataclass(frozen=True, slots=True)
class Sample:
    """One test study, by what tells it from another."""

    study_instance_uid: Uid
    series_instance_uid: Uid
    sop_instance_uid: Uid
    date: str
    time: str

    def data_set(self) -> bytes:
        """Its encoded data set, always the same."""
        out = io.BytesIO()
        dcmwrite(out, _data_set(self), implicit_vr=False, little_endian=True, enforce_file_format=False)
        return out.getvalue()


def new_sample(date: str, time: str) -> Sample:
    """A test study with UIDs of its own (PS3.5 B.2), made on `date` (DA) at `time` (TM)."""
    study, series, instance = (Uid(f"2.25.{secrets.randbits(120)}") for _ in range(3))
    return Sample(study, series, instance, date, time)


def _data_set(sample: Sample) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.SOPClassUID = SOP_CLASS
    ds.SOPInstanceUID = sample.sop_instance_uid
    ds.StudyDate = ds.ContentDate = ds.AcquisitionDate = sample.date
    ds.StudyTime = ds.ContentTime = ds.AcquisitionTime = sample.time
    ds.AccessionNumber = ""
    ds.Modality = "PX"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Manufacturer = "Clinic Box"
    ds.ManufacturerModelName = "Setup wizard"
    ds.StationName = "SETUP"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = DESCRIPTION
    ds.SeriesDescription = "Drawn, not taken"
    ds.PatientName = PATIENT_NAME
    ds.PatientID = PATIENT_ID
    ds.PatientBirthDate = ""
    ds.PatientSex = ""
    ds.PatientComments = "Synthetic. No person was exposed."
    ds.BodyPartExamined = "JAW"
    ds.AnatomicRegionSequence = Sequence([_jaw()])
    ds.AcquisitionContextSequence = Sequence()
    ds.DetectorType = ""
    ds.ImagerPixelSpacing = [0.1, 0.1]
    ds.StudyInstanceUID = sample.study_instance_uid
    ds.SeriesInstanceUID = sample.series_instance_uid
    ds.StudyID = ""
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.PatientOrientation = ["L", "F"]
    ds.ImageLaterality = "B"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.BurnedInAnnotation = "YES"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.WindowCenter, ds.WindowWidth = MOST_GREY // 2, MOST_GREY + 1
    ds.PixelData = _pixels()
    return ds


def _jaw() -> Dataset:
    """Jaw region, SNOMED CT (PS3.16 CID 4)."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "661005", "SCT", "Jaw region"
    return code


def _pixels() -> bytes:
    """A jaw as a child would draw it, with TEST across it; 12 bits, no randomness."""
    across, down = np.meshgrid(np.linspace(-1, 1, COLUMNS), np.linspace(-1, 1, ROWS))
    arch = np.exp(-(((down - 0.75 * across**2 + 0.1) / 0.42) ** 2))
    gap = 1 - 0.7 * np.exp(-(((down - 0.75 * across**2 + 0.12) / 0.03) ** 2))
    teeth = 0.75 + 0.25 * np.cos(across * 16 * np.pi) ** 2
    spine = 0.25 * np.exp(-((across / 0.1) ** 2)) * (down > 0.2)
    grey = np.clip(0.08 + 0.8 * arch * gap * teeth + spine, 0, 1)
    lettering = Image.new("L", (COLUMNS, ROWS))
    draw = ImageDraw.Draw(lettering)
    draw.text((COLUMNS / 2, ROWS * 0.2), "TEST", fill=255, anchor="mm", font=ImageFont.load_default(size=150))
    draw.text(
        (COLUMNS / 2, ROWS * 0.93),
        "CLINIC BOX - NO PATIENT",
        fill=255,
        anchor="mm",
        font=ImageFont.load_default(size=40),
    )
    written = np.asarray(lettering, dtype=np.float64) / 255
    shown = np.maximum(grey * (1 - written), written)
    return np.ascontiguousarray(np.rint(shown * MOST_GREY), dtype="<u2").tobytes()
