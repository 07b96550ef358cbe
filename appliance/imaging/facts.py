"""What the page says beside a picture: size, frames, windows, lossy, spacing, side, region, teeth, as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import Dataset

from appliance.imaging.recorded import (
    Window,
    number_of,
    numbers_of,
    read_header,
    syntax_of,
    text_of,
    tone_of,
    whole_of,
    windows_of,
)

_LOSSY_SYNTAXES = frozenset(
    (
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.203",
    )
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says beside the picture, as recorded; absent text is empty.

    `teeth` are the meanings of the tooth codes (CID 4018/4019, ISO 3950) with their code value where the meaning does
    not say it. `spacing_mm` is row, column; without it the image is uncalibrated.
    """

    rows: int
    columns: int
    frames: int
    colour: bool
    windows: tuple[Window, ...]
    lossy: bool
    spacing_mm: tuple[float, float] | None
    laterality: str
    region: str
    teeth: tuple[str, ...]
    frame_seconds: float


def describe(stream: BinaryIO) -> Facts:
    """The facts of the instance in `stream` (a Part 10 file). Raises `NotShown` when it holds no image."""
    dataset = read_header(stream)
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    frames = max(1, whole_of(dataset, "NumberOfFrames"))
    tone = tone_of(dataset, 0)
    return Facts(
        rows=rows,
        columns=columns,
        frames=frames,
        colour=whole_of(dataset, "SamplesPerPixel") == 3
        or text_of(dataset, "PhotometricInterpretation") == "PALETTE COLOR",
        windows=windows_of(tone),
        lossy=text_of(dataset, "LossyImageCompression") == "01" or syntax_of(dataset) in _LOSSY_SYNTAXES,
        spacing_mm=_spacing(dataset),
        laterality=text_of(dataset, "ImageLaterality") or text_of(dataset, "Laterality"),
        region=_region(dataset),
        teeth=_teeth(dataset),
        frame_seconds=(number_of(dataset, "FrameTime") or 0.0) / 1000,
    )


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = numbers_of(dataset, keyword)
        if len(spacing) == 2 and min(spacing) > 0:
            return spacing[0], spacing[1]
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(dataset.get(sequence) or [])[:1]:
            for measures in list(group.get("PixelMeasuresSequence") or [])[:1]:
                spacing = numbers_of(measures, "PixelSpacing")
                if len(spacing) == 2:
                    return spacing[0], spacing[1]
    return None


def _region(dataset: Dataset) -> str:
    for item in list(dataset.get("AnatomicRegionSequence") or [])[:1]:
        return text_of(item, "CodeMeaning")
    return text_of(dataset, "BodyPartExamined")


def _teeth(dataset: Dataset) -> tuple[str, ...]:
    """Tooth codes of an intra-oral film (PS3.3 C.8.18: CID 4018/4019), where vendors put them."""
    places = [dataset, *list(dataset.get("AnatomicRegionSequence") or [])]
    found: list[str] = []
    for place in places:
        for keyword in ("PrimaryAnatomicStructureSequence", "AnatomicRegionModifierSequence"):
            for item in list(place.get(keyword) or []):
                meaning, value = text_of(item, "CodeMeaning"), text_of(item, "CodeValue")
                scheme = text_of(item, "CodingSchemeDesignator")
                label = f"{value} · {meaning}" if "3950" in scheme and value not in meaning else meaning
                if label and label not in found:
                    found.append(label)
    return tuple(found)
