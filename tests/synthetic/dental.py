"""The dental kinds: panoramic, full-mouth series, cephalometric, CBCT, photograph, TMJ series.

Panoramics are DX objects whose Modality is PX, as the field sends them. The CBCT is one multi-frame object without functional
groups, its spacing in Slice Thickness (seen at Slicer#6773 and #7496); by default in a SOP class that allows this, with
`as_ct=True` in CT Image Storage, which does not allow it and in which devices send it all the same.
"""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)

from . import drawing
from .instance import Visit, coded, instance, put_colour, put_grey, put_samples, random_of, sequence_of, uid
from .patients import ANDRE, FRANCOIS, HELENE, ZOE, Patient
from .teeth import FULL_MOUTH, Film, tooth_code

ISO_3950 = "99ISO3950"  # PS3.16 8 lists no designator for it: private ones begin with 99
CBCT_SPACING_MM = 0.3
ANISOTROPIC_SPACING_MM = 0.125


def panoramic(
    seed: int = 1,
    *,
    patient: Patient = HELENE,
    scale: float = 1.0,
    bits: int = 12,
    photometric: str = "MONOCHROME2",
    shape: tuple[int, int] = (1280, 2440),
) -> Dataset:
    """A panoramic: Digital X-Ray for presentation, Modality PX, 12 or 16 bits, letter R on the patient's right.

    Args:
        seed: Chooses UIDs, date and chance.
        patient: Whose it is.
        scale: Factor on rows and columns.
        bits: Bits stored.
        photometric: MONOCHROME1 or MONOCHROME2.
        shape: Rows and columns at scale 1.
    """
    visit = Visit(seed, patient, "bilan", "Bilan dentaire complet")
    ds = instance(visit, DigitalXRayImageStorageForPresentation, "PX", "Panoramique", 1, 1)
    _put_projection(
        ds, bits, photometric, body_part="JAW", region=codes.cid4009.JawRegion, spacing_mm=0.1 / scale
    )
    ds.ImageLaterality = "U"
    ds.PatientOrientation = ["L", "F"]
    ds.PositionerType = "NONE"
    ds.KVP = "70"
    ds.ExposureTime = "14000"
    _put_view(ds, codes.cid4010.Frontal)
    rows, columns = _scaled(shape, scale)
    put_grey(
        ds, drawing.panoramic(rows, columns, random_of(seed, patient.id, "panoramic")), bits, photometric
    )
    return ds


def full_mouth_series(
    seed: int = 1,
    *,
    patient: Patient = HELENE,
    scale: float = 1.0,
    bits: int = 12,
    photometric: str = "MONOCHROME2",
) -> list[Dataset]:
    """The 18 films of a full mouth in one series, in the order of `teeth.FULL_MOUTH`.

    Each film says its jaw in Anatomic Region Sequence (CID 4016), its teeth in Primary Anatomic Structure Sequence (CID 4018,
    with the ISO 3950 number as equivalent code) and its side in Image Laterality. Arguments as for `panoramic`.
    """
    return [
        _film(seed, patient, scale, bits, photometric, film, number)
        for number, film in enumerate(FULL_MOUTH, start=1)
    ]


def cephalometric(
    seed: int = 1,
    *,
    patient: Patient = FRANCOIS,
    scale: float = 1.0,
    bits: int = 16,
    photometric: str = "MONOCHROME1",
) -> Dataset:
    """A lateral cephalogram: Digital X-Ray for presentation, Modality DX, 16 bits. Arguments as for `panoramic`."""
    visit = Visit(seed, patient, "orthodontie", "Bilan d'orthodontie", hour=10)
    ds = instance(visit, DigitalXRayImageStorageForPresentation, "DX", "Céphalométrie latérale", 1, 1)
    _put_projection(
        ds, bits, photometric, body_part="SKULL", region=codes.cid4009.Skull, spacing_mm=0.15 / scale
    )
    ds.ImageLaterality = "U"
    ds.PatientOrientation = ["A", "F"]
    ds.PositionerType = "CEPHALOSTAT"
    ds.DistanceSourceToDetector = "1700"
    ds.DistanceSourceToPatient = "1500"
    ds.EstimatedRadiographicMagnificationFactor = "1.133333"
    ds.KVP = "80"
    _put_view(ds, codes.cid4010.LeftLateral)
    rows, columns = _scaled((1800, 1500), scale)
    put_grey(ds, drawing.cephalometric(rows, columns, random_of(seed, patient.id, "ceph")), bits, photometric)
    return ds


def cbct(
    seed: int = 1,
    *,
    patient: Patient = FRANCOIS,
    frames: int = 128,
    size: int = 128,
    as_ct: bool = False,
) -> Dataset:
    """A cone-beam CT in one multi-frame instance of 16-bit samples, chin first.

    Args:
        seed: Chooses UIDs, date and chance.
        patient: Whose it is.
        frames: Axial slices; 128 frames of 128 weigh 4 MB, 536 of 536 weigh 308 MB.
        size: Rows, and columns, of each.
        as_ct: In CT Image Storage, as some devices send it, though PS3.3 gives that class no frames.
    """
    visit = Visit(seed, patient, "orthodontie", "Bilan d'orthodontie", hour=10)
    sop_class = CTImageStorage if as_ct else MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    ds = instance(visit, sop_class, "CT", "CBCT", 1, 2)
    ds.ImageType = ["ORIGINAL" if as_ct else "DERIVED", "PRIMARY", "AXIAL"]
    ds.BodyPartExamined = "JAW"
    ds.PatientOrientation = ["L", "P"]
    ds.KVP = "90"
    ds.SliceThickness = str(CBCT_SPACING_MM)
    ds.PixelSpacing = [CBCT_SPACING_MM, CBCT_SPACING_MM]
    ds.NumberOfFrames = frames
    ds.RescaleIntercept = "-1000"
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    _put_window(ds, 1500, 4000)
    if as_ct:
        ds.FrameOfReferenceUID = uid(seed, patient.id, "cbct frame of reference")
        ds.PositionReferenceIndicator = ""
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-size * CBCT_SPACING_MM / 2, -size * CBCT_SPACING_MM / 2, 0]
        ds.AcquisitionNumber = 1
    else:
        ds.ConversionType = "SYN"
        ds.BurnedInAnnotation = "NO"
        ds.PresentationLUTShape = "IDENTITY"
        ds.FrameIncrementPointer = Tag("SliceThickness")
    put_samples(ds, _volume(frames, size, seed), 16, "MONOCHROME2")
    return ds


def colour_photo(seed: int = 1, *, patient: Patient = ZOE, scale: float = 1.0) -> Dataset:
    """An intra-oral photograph: VL Photographic Image, RGB. Arguments as for `panoramic`."""
    visit = Visit(seed, patient, "photos", "Photographies", hour=11)
    ds = instance(visit, VLPhotographicImageStorage, "XC", "Photo intra-buccale", 1, 1)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.PatientOrientation = ["L", "F"]
    ds.AcquisitionDateTime = f"{ds.AcquisitionDate}{ds.AcquisitionTime}"
    ds.AcquisitionContextSequence = sequence_of()
    ds.Laterality = ""
    rows, columns = _scaled((960, 1440), scale)
    put_colour(ds, drawing.photo(rows, columns, random_of(seed, patient.id, "photo")))
    return ds


def tmj_series(
    seed: int = 1, *, patient: Patient = ANDRE, scale: float = 1.0, bits: int = 12
) -> list[Dataset]:
    """Both temporomandibular joints, mouth closed and open: four Digital X-Ray images with Modality PX in one series.

    The pixels of these are not square, as on some panoramic machines. Arguments as for `panoramic`.
    """
    visit = Visit(seed, patient, "atm", "Examen des ATM", hour=14)
    made = []
    for number, (side, is_open) in enumerate([("R", False), ("L", False), ("R", True), ("L", True)], start=1):
        ds = instance(visit, DigitalXRayImageStorageForPresentation, "PX", "ATM", number, 1)
        region = codes.cid4009.TemporomandibularJoint
        _put_projection(ds, bits, "MONOCHROME2", body_part="TMJ", region=region, spacing_mm=0.1 / scale)
        ds.ImagerPixelSpacing = [0.1 / scale, ANISOTROPIC_SPACING_MM / scale]
        ds.ImageLaterality = side
        ds.PatientOrientation = ["A" if side == "R" else "P", "F"]
        ds.PositionerType = "NONE"
        ds.ImageComments = "Bouche ouverte" if is_open else "Bouche fermée"
        _put_view(ds, codes.cid4010.LateralProjection)
        rng = random_of(seed, patient.id, "tmj", number)
        rows, columns = _scaled((900, 800), scale)
        put_grey(ds, drawing.tmj(rows, columns, side=side, mouth_open=is_open, rng=rng), bits, "MONOCHROME2")
        made.append(ds)
    return made


def _film(
    seed: int, patient: Patient, scale: float, bits: int, photometric: str, film: Film, number: int
) -> Dataset:
    visit = Visit(seed, patient, "bilan", "Bilan dentaire complet")
    ds = instance(visit, DigitalIntraOralXRayImageStorageForPresentation, "IO", "Série complète", number, 2)
    region: Code = getattr(codes.cid4016, film.region)
    _put_projection(ds, bits, photometric, body_part="JAW", region=region, spacing_mm=0.05 / scale)
    ds.PrimaryAnatomicStructureSequence = sequence_of(*(_tooth_item(tooth) for tooth in film.teeth))
    ds.ImageLaterality = film.laterality
    ds.PatientOrientation = {"R": ["A", "F"], "L": ["P", "F"], "B": ["L", "F"]}[film.laterality]
    ds.PositionerType = "NONE"
    ds.ImageComments = film.name
    ds.KVP = "65"
    shape = _scaled((480, 640) if film.is_bitewing else (640, 480), scale)
    put_grey(
        ds,
        drawing.intraoral(*shape, film.teeth, random_of(seed, patient.id, "film", number)),
        bits,
        photometric,
    )
    return ds


def _tooth_item(tooth: int) -> Dataset:
    item = coded(tooth_code(tooth))
    item.EquivalentCodeSequence = sequence_of(coded(Code(str(tooth), ISO_3950, f"Tooth {tooth}")))
    return item


def _put_projection(
    ds: Dataset, bits: int, photometric: str, *, body_part: str, region: Code, spacing_mm: float
) -> None:
    """The DX image, detector, anatomy and window attributes that all projection radiographs share (PS3.3 C.8.11)."""
    inverted = photometric == "MONOCHROME1"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.BodyPartExamined = body_part
    ds.AnatomicRegionSequence = sequence_of(coded(region))
    ds.DetectorType = "DIRECT"
    ds.DetectorID = "SYN-DET-1"
    ds.ImagerPixelSpacing = [round(spacing_mm, 6)] * 2
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if inverted else -1
    ds.RescaleIntercept = "0"
    ds.RescaleSlope = "1"
    ds.RescaleType = "US"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.AcquisitionContextSequence = sequence_of()
    _put_window(ds, (1 << bits) // 2, 1 << bits)


def _put_window(ds: Dataset, centre: int, width: int) -> None:
    ds.WindowCenter = str(centre)
    ds.WindowWidth = str(width)
    ds.WindowCenterWidthExplanation = "NORMAL"


def _put_view(ds: Dataset, view: Code) -> None:
    item = coded(view)
    item.ViewModifierCodeSequence = sequence_of()
    ds.ViewCodeSequence = sequence_of(item)


def _scaled(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Rows and columns, at least 32 and even, so that pixel data never needs padding."""
    rows, columns = (max(32, 2 * round(n * scale / 2)) for n in shape)
    return rows, columns


def _volume(frames: int, size: int, seed: int) -> np.ndarray:
    """Samples of shape (frames, size, size), uint16, air 0 to enamel about 4000; 24 levels are drawn and repeated."""
    levels = min(frames, 24)
    drawn = [
        (drawing.axial_head(size, level / levels * 0.6, random_of(seed, "cbct", level)) * 4000).astype("<u2")
        for level in range(levels)
    ]
    volume = np.empty((frames, size, size), "<u2")
    for frame in range(frames):
        volume[frame] = drawn[frame * levels // frames]
    return volume
