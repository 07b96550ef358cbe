"""The test files of the pydicom wheel, taken apart without pydicom's help: what a modality would send of them."""

from __future__ import annotations

import functools
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.filereader import dcmread

from appliance.dicom.part10 import read_part10
from appliance.errors import NotUnderstood
from appliance.model import Uid

_DATA = Path(pydicom.__file__).parent / "data"
CUT_SHORT = frozenset({"test_files/MR_truncated.dcm", "test_files/rtplan_truncated.dcm"})
"""What the library's authors have cut on purpose: readable as far as it goes, and not to be kept for the whole."""

_NOT_DICOM = {".py", ".pyc", ".json", ".txt", ".md", ".csv", ".zip", ".gz", ".icc", ".dump"}


@dataclass(frozen=True)
class Sample:
    """A file that the library can read and that names an instance of a series of a study."""

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: Uid
    data_set: bytes
    dataset: pydicom.Dataset

    def __repr__(self) -> str:
        return self.name


@functools.cache
def paths() -> tuple[Path, ...]:
    """Every file of the wheel that may be DICOM."""
    return tuple(
        sorted(
            path
            for path in _DATA.rglob("*")
            if path.is_file() and path.suffix not in _NOT_DICOM and "__pycache__" not in path.parts
        )
    )


def samples() -> tuple[Sample, ...]:
    """Every file that the library reads whole, and that has the four UIDs and a transfer syntax."""
    return tuple(each for each in _readable() if each.name not in CUT_SHORT)


def cut_short() -> tuple[Sample, ...]:
    """The same of those that were cut on purpose."""
    return tuple(each for each in _readable() if each.name in CUT_SHORT)


@functools.cache
def _readable() -> tuple[Sample, ...]:
    found = []
    for path in paths():
        data = path.read_bytes()
        try:
            offset = read_part10(io.BytesIO(data)).dataset_offset
        except NotUnderstood:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, force=True)
            needed = (
                dataset.get(k)
                for k in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
            )
            syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
            if not (all(needed) and syntax):
                continue
        found.append(
            Sample(
                "/".join(path.relative_to(_DATA).parts[-2:]),
                str(dataset.SOPClassUID),
                str(dataset.SOPInstanceUID),
                Uid(str(syntax)),
                data[offset:],
                dataset,
            )
        )
    return tuple(found)
