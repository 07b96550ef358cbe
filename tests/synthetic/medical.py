"""The kinds that a medical clinic adds: a CT series and an encapsulated report."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage

from . import drawing
from .instance import Visit, instance, put_samples, random_of, uid
from .patients import ANDRE, MAELLE, Patient

SLICE_SPACING_MM = 2.5


def ct_slice(
    seed: int = 1, *, patient: Patient = MAELLE, number: int = 1, of: int = 1, size: int = 512
) -> Dataset:
    """Slice `number` (from 1) `of` a head CT: CT Image Storage, signed 16 bits, Hounsfield units; 0.5 MB at size 512."""
    visit = Visit(seed, patient, "tdm", "TDM tête sans contraste", hour=13)
    ds = instance(visit, CTImageStorage, "CT", "Axial 2,5 mm", number, 1)
    spacing = 240 / size
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.BodyPartExamined = "HEAD"
    ds.KVP = "120"
    ds.AcquisitionNumber = 1
    ds.PatientPosition = "HFS"
    ds.PositionReferenceIndicator = ""
    ds.FrameOfReferenceUID = uid(seed, patient.id, "ct frame of reference")
    ds.SliceThickness = str(SLICE_SPACING_MM)
    ds.PixelSpacing = [round(spacing, 6)] * 2
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-120, -120, round(SLICE_SPACING_MM * (number - 1), 3)]
    ds.RescaleIntercept = "0"
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    ds.WindowCenter = ["40", "500"]
    ds.WindowWidth = ["80", "2000"]
    ds.WindowCenterWidthExplanation = ["CERVEAU", "OS"]
    level = (number - 1) / max(1, of - 1) if of > 1 else 0.75
    pixels = drawing.axial_head(size, level, random_of(seed, patient.id, "ct", number))
    hounsfield = np.interp(pixels, (0, 0.25, 0.36, 1.0), (-1000, 0, 60, 1600)).astype("<i2")
    put_samples(ds, hounsfield, 16, "MONOCHROME2", signed=True)
    return ds


def ct_series(seed: int = 1, *, patient: Patient = MAELLE, slices: int = 8, size: int = 512) -> list[Dataset]:
    """A head CT of so many slices, from the chin up."""
    return [ct_slice(seed, patient=patient, number=n, of=slices, size=size) for n in range(1, slices + 1)]


def pdf(seed: int = 1, *, patient: Patient = ANDRE) -> Dataset:
    """A one-page report as Encapsulated PDF, in the study of the patient's TMJ series."""
    visit = Visit(seed, patient, "atm", "Examen des ATM", hour=14)
    ds = instance(visit, EncapsulatedPDFStorage, "DOC", "Rapport", 1, 2)
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "YES"
    ds.ConversionType = "WSD"
    ds.DocumentTitle = "Rapport d'examen des ATM"
    ds.ConceptNameCodeSequence = Sequence()
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = _one_page(f"Rapport fictif - {patient.family_name}, {patient.given_name}")
    ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    ds.EncapsulatedDocumentLength = len(document)
    return ds


def _one_page(text: str) -> bytes:
    """A minimal PDF 1.4 file with this line of Latin-1 text on it."""
    shown = text.encode("latin-1").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    content = b"BT /F1 16 Tf 72 720 Td (" + shown + b") Tj ET"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        font,
    )
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for index, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (index, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)
