"""One frame of an instance as eight-bit pixels: modality LUT → VOI → MONOCHROME1 → PNG or JPEG (PS3.3 C.11, PS3.14).

Chosen: for samples of up to 16 bits the whole greyscale pipeline is computed once per picture over every possible
stored value (256 or 65,536 of them) and applied to the pixels as one table look-up, because a panoramic has four
million pixels and only 65,536 values; native pixels are read in place without pydicom's copies. Everything else goes
through pydicom's decoders. Rejected: windowing each pixel in floating point (four times slower on a panoramic).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from appliance.imaging.recorded import (
    NotShown,
    Pixels,
    Window,
    decoded_frame,
    native_frame,
    number_of,
    read_header,
    text_of,
    tone_of,
    whole_of,
    windows_of,
)

Bytes8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """What to draw: frame (0 first), window, size of the longest side in pixels (0 = as recorded), file format.

    `tone` is "recorded" (the instance's own VOI, or the range of the frame), "full" (the range of the frame) or
    "window" (`window` below). `shift` then moves the window's centre by a fraction of its width, and `stretch` widens
    it: a person's brightness and contrast, whatever the units are.
    """

    frame: int = 0
    tone: Literal["recorded", "full", "window"] = "recorded"
    window: Window | None = None
    shift: float = 0.0
    stretch: float = 1.0
    inverted: bool = False
    longest: int = 0
    format: Literal["jpeg", "png"] = "jpeg"


def render(stream: BinaryIO, view: View) -> bytes:
    """The frame of the instance in `stream` that `view` asks for, as the bytes of a JPEG or PNG file.

    Raises `NotShown`.
    """
    image = Image.fromarray(draw(stream, view))
    if view.longest and max(image.size) > view.longest:
        image.thumbnail((view.longest, view.longest), Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    if view.format == "png":
        image.save(out, "PNG", compress_level=1)
    else:
        image.save(out, "JPEG", quality=88 if view.longest else 92)
    return out.getvalue()


def draw(stream: BinaryIO, view: View) -> Bytes8:
    """The same as an array: (rows, columns) in greyscale or (rows, columns, 3) in RGB, eight bits."""
    dataset = read_header(stream)
    frames = max(1, whole_of(dataset, "NumberOfFrames"))
    if not 0 <= view.frame < frames:
        raise NotShown("no-such-frame")
    photometric = text_of(dataset, "PhotometricInterpretation")
    if whole_of(dataset, "SamplesPerPixel") == 3:
        return _eight_bits(decoded_frame(stream, dataset, view.frame), dataset, inverted=view.inverted)
    if photometric == "PALETTE COLOR":
        painted = apply_color_lut(decoded_frame(stream, dataset, view.frame), dataset)
        return _to_bytes(painted[..., :3], inverted=view.inverted)
    return _greyscale(stream, dataset, view)


# --- greyscale -----------------------------------------------------------------------------------------------------------


def _greyscale(stream: BinaryIO, dataset: Dataset, view: View) -> Bytes8:
    tone = tone_of(dataset, view.frame)
    stored = native_frame(stream, dataset, view.frame)
    masked = stored is not None
    if stored is None:
        stored = decoded_frame(stream, dataset, view.frame)
    dark_is_high = (text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1") != view.inverted
    fits = stored.dtype.kind in "ui" and stored.dtype.itemsize <= 2

    if not fits:
        values = _modality(stored.astype(np.float64), tone)
        return _to_grey(values, _voi(tone, view, _range_of(values, None)), dark_is_high)

    domain = _every_value(stored.dtype)
    meaning = _significant(domain, dataset) if masked else domain
    values = _modality(meaning, tone)
    present: tuple[float, float] | None = None
    if _needs_range(tone, view):
        reference = stored
        if (
            whole_of(dataset, "NumberOfFrames") > 1 and masked
        ):  # one range for all frames, or scrolling flickers
            middle = native_frame(stream, dataset, whole_of(dataset, "NumberOfFrames") // 2)
            reference = stored if middle is None else middle
        seen = np.unique(reference)
        present = _range_of(values[_index(seen)], _not_padding(meaning[_index(seen)], dataset))
    table = _to_grey(values, _voi(tone, view, present), dark_is_high)
    return table.take(_index(stored))


def _every_value(dtype: np.dtype[Any]) -> Pixels:
    """Every value that `dtype` can hold, ordered so that a value's bits are its index."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.arange(1 << (8 * dtype.itemsize), dtype=unsigned).view(
        np.dtype(f"{dtype.kind}{dtype.itemsize}")
    )


def _index(stored: Pixels) -> Pixels:
    return stored.view(np.dtype(f"u{stored.dtype.itemsize}"))


def _significant(values: Pixels, dataset: Dataset) -> Pixels:
    """`values` with the bits outside Bits Stored / High Bit removed and the sign restored (PS3.5 8.1.1)."""
    allocated = 8 * values.dtype.itemsize
    kept = whole_of(dataset, "BitsStored") or allocated
    high = whole_of(dataset, "HighBit") if "HighBit" in dataset else kept - 1
    if not 0 < kept <= allocated or not kept - 1 <= high < allocated or kept == allocated:
        return values
    shifted = (values.astype(np.int64) >> (high + 1 - kept)) & ((1 << kept) - 1)
    if values.dtype.kind == "i":
        shifted = np.where(shifted >= 1 << (kept - 1), shifted - (1 << kept), shifted)
    return shifted.astype(values.dtype)


def _modality(values: Pixels, tone: Dataset) -> Pixels:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    return np.asarray(apply_modality_lut(values, tone)) if _has_modality(tone) else values


def _has_modality(tone: Dataset) -> bool:
    return bool(tone.get("ModalityLUTSequence")) or ("RescaleSlope" in tone and "RescaleIntercept" in tone)


@dataclass(frozen=True, slots=True)
class _Voi:
    """A VOI transformation to 0…1: a window with its function, or a table that starts at `first`."""

    center: float = 0.0
    width: float = 1.0
    function: str = "LINEAR"
    table: Pixels | None = None
    first: int = 0
    top: float = 1.0
    shift: float = 0.0
    stretch: float = 1.0

    def __call__(self, values: Pixels) -> Pixels:
        if self.table is not None:
            at = np.clip(values.astype(np.int64) - self.first, 0, len(self.table) - 1)
            grey = self.table[at].astype(np.float64) / self.top
            return np.clip((grey - 0.5 - self.shift) / self.stretch + 0.5, 0.0, 1.0)
        x = values.astype(np.float64)
        if self.function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
            exponent = np.clip(-4.0 * (x - self.center) / self.width, -700.0, 700.0)
            return np.asarray(1.0 / (1.0 + np.exp(exponent)))
        if self.function == "LINEAR_EXACT":  # PS3.3 C.11.2.1.3.2
            return np.clip((x - self.center) / self.width + 0.5, 0.0, 1.0)
        if self.width <= 1:  # PS3.3 C.11.2.1.2.1: a threshold
            return (x > self.center - 0.5).astype(np.float64)
        return np.clip((x - (self.center - 0.5)) / (self.width - 1) + 0.5, 0.0, 1.0)


def _needs_range(tone: Dataset, view: View) -> bool:
    if view.tone == "full":
        return True
    if view.tone == "window" and view.window is not None:
        return False
    return not tone.get("VOILUTSequence") and not windows_of(tone)


def _voi(tone: Dataset, view: View, present: tuple[float, float] | None) -> _Voi:
    found = _resolved(tone, view, present)
    if (view.shift, view.stretch) == (0.0, 1.0):
        return found
    if found.table is not None:
        return replace(found, shift=view.shift, stretch=view.stretch)
    return replace(found, center=found.center + view.shift * found.width, width=found.width * view.stretch)


def _resolved(tone: Dataset, view: View, present: tuple[float, float] | None) -> _Voi:
    function = text_of(tone, "VOILUTFunction") or "LINEAR"
    if view.tone == "window" and view.window is not None:
        return _Voi(view.window.center, view.window.width, function)
    if view.tone == "recorded":
        if lut := tone.get("VOILUTSequence"):
            return _lut(lut[0])
        if windows := windows_of(tone):
            return _Voi(windows[0].center, windows[0].width, function)
    low, high = present or (0.0, 1.0)
    return _Voi((low + high) / 2, max(high - low, 1e-9), "LINEAR_EXACT")


def _lut(item: Dataset) -> _Voi:
    """A VOI LUT item as a table (PS3.3 C.11.2.1.1): entries, first stored value mapped, bits per entry."""
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count = count or 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        width = "<u2" if len(data) >= 2 * count else "u1"
        entries: Pixels = np.frombuffer(data, width, count=count)
    else:
        entries = np.asarray(data, dtype=np.int64)[:count] & 0xFFFF
    if not len(entries) or not 1 <= bits <= 16:
        raise NotShown("malformed")
    if item["LUTDescriptor"].VR == "SS" and first > 0x7FFF:
        first -= 1 << 16
    return _Voi(table=entries, first=first, top=float((1 << bits) - 1))


def _range_of(values: Pixels, kept: Pixels | None) -> tuple[float, float]:
    """Least and greatest of `values`, those where `kept` is false left out unless nothing would remain."""
    chosen = values if kept is None or not kept.any() else values[kept]
    return (float(chosen.min()), float(chosen.max())) if chosen.size else (0.0, 1.0)


def _not_padding(stored: Pixels, dataset: Dataset) -> Pixels | None:
    """Where stored values are picture rather than padding (PS3.3 C.7.5.1.1.2)."""
    padding = number_of(dataset, "PixelPaddingValue")
    if padding is None:
        return None
    limit = number_of(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((padding, padding if limit is None else limit))
    return np.asarray((stored < low) | (stored > high))


def _to_grey(values: Pixels, voi: _Voi, dark_is_high: bool) -> Bytes8:
    grey = np.rint(voi(values) * 255.0).clip(0, 255).astype(np.uint8)
    return np.asarray(255 - grey, dtype=np.uint8) if dark_is_high else grey


# --- colour ---------------------------------------------------------------------------------------------------------------


def _eight_bits(pixels: Pixels, dataset: Dataset, *, inverted: bool) -> Bytes8:
    stored = whole_of(dataset, "BitsStored") or 8
    if stored > 8:
        pixels = pixels >> (stored - 8)
    return _to_bytes(pixels.astype(np.uint8), inverted=inverted)


def _to_bytes(pixels: Pixels, *, inverted: bool) -> Bytes8:
    """`pixels` as RGB bytes; tables of 16 bits are cut to their upper eight."""
    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype.itemsize == 2 else pixels.astype(np.uint8)
    return np.ascontiguousarray(255 - eight if inverted else eight)
