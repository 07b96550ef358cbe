"""What every synthetic instance has, whatever its kind: patient, study, series, equipment, pixels, Part 10 meta.

UIDs are UUID-derived (PS3.5 B.2, root 2.25) from a SHA-256 of the seed and the instance's place in the set: the same seed
gives the same UIDs on every machine, another seed gives others.
"""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from .drawing import Pixels
from .patients import Patient

IMPLEMENTATION_CLASS_UID = UID("2.25.299792458000000000000000000000000001")
STATION = "SYNTH1"
FIRST_DAY = date(2026, 3, 2)


@dataclass(frozen=True)
class Visit:
    """One study of one patient: what all its series agree upon."""

    seed: int
    patient: Patient
    label: str
    description: str
    hour: int = 9

    @property
    def study_uid(self) -> UID:
        return uid(self.seed, self.patient.id, self.label)

    @property
    def day(self) -> date:
        """The study's date; the seed moves it, so that several seeds fill a calendar."""
        return FIRST_DAY + timedelta(days=self.seed % 180)

    @property
    def accession_number(self) -> str:
        return f"A{_digest(self.seed, self.patient.id, self.label)[:4].hex().upper()}"


def uid(seed: int, *place: object) -> UID:
    """The UID of this place in the set of this seed, e.g. `uid(1, "panoramic", 0)`."""
    return UID(f"2.25.{uuid.UUID(bytes=_digest(seed, *place)[:16], version=5).int}")


def random_of(seed: int, *place: object) -> np.random.Generator:
    """The source of chance for this place in the set; independent of the order of generation."""
    return np.random.default_rng(int.from_bytes(_digest(seed, *place)[:8], "big"))


def instance(
    visit: Visit, sop_class: UID, modality: str, series: str, number: int, series_number: int
) -> Dataset:
    """A data set with the patient, study, series, equipment and SOP common modules, and its file meta.

    Args:
        visit: The study.
        sop_class: SOP Class UID.
        modality: Value of (0008,0060).
        series: Series Description; names the series within the study.
        number: Instance Number, from 1.
        series_number: Series Number, from 1.
    """
    patient = visit.patient
    ds = Dataset()
    ds.SpecificCharacterSet = patient.character_set
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid(visit.seed, patient.id, visit.label, series, number)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = f"{visit.day:%Y%m%d}"
    ds.StudyTime = f"{visit.hour:02d}1500"
    ds.SeriesTime = f"{visit.hour:02d}{15 + series_number:02d}00"
    ds.AcquisitionTime = ds.ContentTime = f"{visit.hour:02d}{15 + series_number:02d}{number % 60:02d}"
    ds.AccessionNumber = visit.accession_number
    ds.Modality = modality
    ds.Manufacturer = "Synthetic Imaging"
    ds.InstitutionName = "Clinique dentaire fictive"
    ds.ReferringPhysicianName = "Référent^Fictif^^Dre"
    ds.StationName = STATION
    ds.StudyDescription = visit.description
    ds.SeriesDescription = series
    ds.ManufacturerModelName = "Synthetic"
    ds.PatientName = patient.name
    ds.PatientID = patient.id
    ds.PatientBirthDate = patient.birth_date
    ds.PatientSex = patient.sex
    ds.DeviceSerialNumber = "0001"
    ds.SoftwareVersions = "1"
    ds.StudyInstanceUID = visit.study_uid
    ds.SeriesInstanceUID = uid(visit.seed, patient.id, visit.label, series)
    ds.StudyID = visit.accession_number[1:]
    ds.SeriesNumber = series_number
    ds.InstanceNumber = number
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    ds.file_meta.ImplementationVersionName = "SYNTHETIC_1"
    return ds


def put_grey(ds: Dataset, pixels: Pixels, bits: int, photometric: str) -> None:
    """The image pixel module for one grey frame, in 16 bits allocated.

    Args:
        ds: Receives the module.
        pixels: Shape (rows, columns), 0.0 black to 1.0 white as to be displayed.
        bits: Bits stored, 8 < bits <= 16.
        photometric: MONOCHROME1 (stored inverted) or MONOCHROME2.
    """
    top = (1 << bits) - 1
    shown = pixels if photometric == "MONOCHROME2" else 1 - pixels
    put_samples(ds, (shown * np.float32(top)).astype("<u2"), bits, photometric)


def put_samples(
    ds: Dataset, samples: np.ndarray, bits: int, photometric: str, *, signed: bool = False
) -> None:
    """The image pixel module for 16-bit samples of shape (rows, columns) or (frames, rows, columns)."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = (int(n) for n in samples.shape[-2:])
    ds.BitsAllocated = 16
    ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(signed)
    ds["PixelData"] = _pixel_data(samples.astype("<i2" if signed else "<u2", copy=False).tobytes(), "OW")


def put_colour(ds: Dataset, pixels: Pixels) -> None:
    """The image pixel module for one RGB frame of shape (rows, columns, 3), 8 bits, interleaved."""
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = (int(n) for n in pixels.shape[:2])
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    encoded = (pixels * np.float32(255)).astype("u1").tobytes()
    ds["PixelData"] = _pixel_data(encoded + b"\0" * (len(encoded) % 2), "OB")


def coded(code: Code) -> Dataset:
    """One item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def sequence_of(*items: Dataset) -> Sequence:
    return Sequence(items)


def _digest(seed: int, *place: object) -> bytes:
    return hashlib.sha256("/".join(map(str, ("synthetic", seed, *place))).encode()).digest()


def _pixel_data(value: bytes, vr: str) -> DataElement:
    return DataElement(Tag("PixelData"), vr, value)
