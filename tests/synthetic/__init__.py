"""A synthetic clinic: valid DICOM instances of invented patients, the same for the same seed.

`dental_set` is what the demonstration sends; `clinic_set` adds the medical kinds; each kind is a function of its own. Every
data set carries its `file_meta`, so that `ds.save_as(path, enforce_file_format=True)` writes a Part 10 file. There is no
public set of dental files; these are drawn from what conformance statements say.
"""

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from .dental import cbct, cephalometric, colour_photo, full_mouth_series, panoramic, tmj_series
from .medical import ct_series, ct_slice, pdf
from .patients import ANDRE, FRANCOIS, HELENE, MAELLE, MARKERS, PATIENTS, ZOE, Patient, marker_bytes
from .teeth import FULL_MOUTH, Film, tooth_code

__all__ = [
    "ANDRE",
    "FRANCOIS",
    "FULL_MOUTH",
    "HELENE",
    "MAELLE",
    "MARKERS",
    "PATIENTS",
    "ZOE",
    "Film",
    "Patient",
    "cbct",
    "cephalometric",
    "clinic_set",
    "colour_photo",
    "ct_series",
    "ct_slice",
    "dental_set",
    "full_mouth_series",
    "marker_bytes",
    "panoramic",
    "pdf",
    "tmj_series",
    "tooth_code",
    "write",
]


def dental_set(seed: int = 1, *, scale: float = 1.0) -> Iterator[Dataset]:
    """A morning at a dental clinic, 22 instances: panoramic, 18 films, cephalometric, CBCT, photograph.

    Args:
        seed: The same seed gives the same bytes; another seed gives other UIDs, dates and details.
        scale: Factor on rows and columns (and frames, for the CBCT); 1.0 makes 25 MB in all, 0.25 is enough for most tests.
    """
    yield panoramic(seed, scale=scale)
    yield from full_mouth_series(seed, scale=scale)
    yield cephalometric(seed, scale=scale)
    side = max(16, round(128 * scale))
    yield cbct(seed, frames=side, size=side)
    yield colour_photo(seed, scale=scale)


def clinic_set(seed: int = 1, *, scale: float = 1.0) -> Iterator[Dataset]:
    """`dental_set` and then a TMJ series, a report in PDF and a CT series: 35 instances."""
    yield from dental_set(seed, scale=scale)
    yield from tmj_series(seed, scale=scale)
    yield pdf(seed)
    yield from ct_series(seed, slices=8, size=max(32, round(512 * scale)))


def write(instances: Iterator[Dataset], to: Path) -> list[Path]:
    """Write each instance as a Part 10 file `NNN-MODALITY.dcm` in the folder `to`, made if need be."""
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for index, ds in enumerate(instances, start=1):
        path = to / f"{index:03d}-{ds.Modality}.dcm"
        ds.save_as(path, enforce_file_format=True)
        written.append(path)
    return written
