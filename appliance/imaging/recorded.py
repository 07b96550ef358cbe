"""A recorded image as it lies in its data set: header, frames before any tone, typed access to odd values."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from appliance.errors import Refused

Pixels = npt.NDArray[Any]

MAX_PIXELS = 120_000_000
"""Samples of one frame that are still worth drawing: above it, a hostile header rather than an image."""

_UNDEFINED = 0xFFFFFFFF

Reason = Literal[
    "no-image", "unsupported", "malformed", "too-large", "no-such-frame", "crashed", "timeout", "busy"
]


class NotShown(Refused):
    """This instance, or this frame of it, cannot be drawn; `reason` is a word the console has a sentence for."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the image cannot be shown: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Window:
    """A window of the VOI: centre and width in the units after the modality LUT, and its name if it was given one."""

    center: float
    width: float
    explanation: str = ""


def read_header(stream: BinaryIO) -> Dataset:
    """The data set up to its pixels; leaves `stream` at the Pixel Data element."""
    stream.seek(0)
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    try:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        pixels = (
            whole_of(dataset, "Rows")
            * whole_of(dataset, "Columns")
            * max(1, whole_of(dataset, "SamplesPerPixel"))
        )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the parser meets any bytes at all; whatever it trips on is malformed
        raise NotShown("malformed") from error
    if not pixels:
        raise NotShown("no-image")
    if pixels > MAX_PIXELS:
        raise NotShown("too-large")
    return dataset


def native_frame(stream: BinaryIO, dataset: Dataset, frame: int) -> Pixels | None:
    """One little-endian, unencapsulated greyscale frame of 8 or 16 bits read in place; None: use the decoders."""
    allocated = whole_of(dataset, "BitsAllocated")
    if syntax_of(dataset) not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1") or allocated not in (8, 16):
        return None
    start = _pixel_data_offset(stream, dataset)
    if start is None:
        return None
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    kind = "i" if whole_of(dataset, "PixelRepresentation") else "u"
    length = rows * columns * allocated // 8
    stream.seek(start + frame * length)
    data = stream.read(length)
    if len(data) != length:
        raise NotShown("malformed")
    return np.frombuffer(data, dtype=f"<{kind}{allocated // 8}").reshape(rows, columns)


def _pixel_data_offset(stream: BinaryIO, dataset: Dataset) -> int | None:
    """Where the value of Pixel Data starts, or None when it is absent or encapsulated. Keeps it on the data set."""
    known: int | None = getattr(dataset, "_pixel_data_at", None)
    if known is not None:
        return known
    at = stream.tell()
    head = stream.read(12)
    if len(head) < 12 or head[:4] != b"\xe0\x7f\x10\x00":
        return None
    if syntax_of(dataset) == "1.2.840.10008.1.2":
        value, length = 8, struct.unpack_from("<I", head, 4)[0]
    else:
        value, length = 12, struct.unpack_from("<I", head, 8)[0]
    if length == _UNDEFINED:
        return None
    object.__setattr__(dataset, "_pixel_data_at", at + value)
    return at + value


def decoded_frame(stream: BinaryIO, dataset: Dataset, frame: int) -> Pixels:
    """One frame through pydicom's decoders (Pillow, GDCM): (rows, columns) or (rows, columns, 3), RGB if colour."""
    try:
        if syntax_of(dataset) == DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            pixels = pixel_array(pydicom.dcmread(stream, force=True), index=frame)
        else:
            pixels = pixel_array(stream, index=frame)
    except (OSError, MemoryError):
        raise
    except NotImplementedError as error:
        raise NotShown("unsupported") from error
    except AttributeError as error:
        raise NotShown("no-image") from error
    except Exception as error:  # decoders raise what they like about bytes they dislike
        undecodable = "missing dependencies" in str(error) or "does not support" in str(error)
        raise NotShown("unsupported" if undecodable else "malformed") from error
    return np.asarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def tone_of(dataset: Dataset, frame: int) -> Dataset:
    """The elements of modality LUT and VOI that hold for `frame`: functional groups first (PS3.3 C.7.6.16)."""
    groups = [dataset]
    try:
        if shared := dataset.get("SharedFunctionalGroupsSequence"):
            groups.append(shared[0])
        if own := dataset.get("PerFrameFunctionalGroupsSequence"):
            groups.append(own[frame] if frame < len(own) else own[0])
        tone = Dataset()
        for group in groups:
            holders = [group]
            for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                holders.extend(list(group.get(keyword) or [])[:1])
            for holder in holders:
                for keyword in _TONE_KEYWORDS:
                    if keyword in holder:
                        tone[keyword] = holder[keyword]
    except Exception as error:  # lazily parsed elements of a stranger's data set
        raise NotShown("malformed") from error
    tone.PhotometricInterpretation = "MONOCHROME2"
    return tone


_TONE_KEYWORDS = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
)


def windows_of(tone: Dataset) -> tuple[Window, ...]:
    centers, widths = numbers_of(tone, "WindowCenter"), numbers_of(tone, "WindowWidth")
    names = tone.get("WindowCenterWidthExplanation") or []
    labels = [printable(str(name)) for name in ([names] if isinstance(names, str) else names)]
    labels += [""] * len(centers)
    return tuple(
        Window(center, width, label)
        for center, width, label in zip(centers, widths, labels, strict=False)
        if width > 0
    )


def syntax_of(dataset: Dataset) -> UID:
    return UID(str(dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2")))


def text_of(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else printable(str(value))


def printable(text: str) -> str:
    """`text` without what would drive the page that shows it: controls, and marks that turn the reading direction."""
    return "".join(each if each.isprintable() else " " for each in text).strip()


def whole_of(dataset: Dataset, keyword: str) -> int:
    number = number_of(dataset, keyword)
    return int(number) if number is not None else 0


def number_of(dataset: Dataset, keyword: str) -> float | None:
    numbers = numbers_of(dataset, keyword)
    return numbers[0] if numbers else None


def numbers_of(dataset: Dataset, keyword: str) -> list[float]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    values = (
        [value] if isinstance(value, (int, float, str)) or not hasattr(value, "__iter__") else list(value)
    )
    try:
        numbers = [float(item) for item in values]
    except (TypeError, ValueError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
