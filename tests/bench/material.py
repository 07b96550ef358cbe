"""What is sent: encoded data sets whose UIDs are replaced, at equal length, for every instance sent."""

import random
import struct
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from tests import synthetic

from .wire import Encoded

UID_DIGITS = 38
INSTANCE, SERIES, STUDY = (f"2.25.{n}{'0' * UID_DIGITS}" for n in (1, 2, 3))


@dataclass(frozen=True)
class Template:
    """An encoded data set cut at its pixel data, with the placeholder UIDs still in the head."""

    sop_class_uid: str
    head: bytes
    pixel_data: bytes

    def instance(self, study_uid: str, series_uid: str, instance_uid: str) -> Encoded:
        """The data set under these UIDs, which must be as long as the placeholders; the pixel data is shared."""
        head = self.head
        for placeholder, uid in ((STUDY, study_uid), (SERIES, series_uid), (INSTANCE, instance_uid)):
            if len(uid) != len(placeholder):
                raise ValueError(f"a UID of {len(uid)} characters cannot replace one of {len(placeholder)}")
            head = head.replace(placeholder.encode(), uid.encode())
        return Encoded(self.sop_class_uid, instance_uid, (head, self.pixel_data))


@dataclass(frozen=True)
class Kind:
    """A column's material: so many instances, from few templates, in one series per sender."""

    name: str
    templates: tuple[Template, ...]

    def series(self, count: int, chance: random.Random) -> list[Encoded]:
        """So many instances of one new study, each with a UID that was never sent before."""
        study, series = fresh_uid(chance), fresh_uid(chance)
        return [
            self.templates[i % len(self.templates)].instance(study, series, fresh_uid(chance))
            for i in range(count)
        ]


def fresh_uid(chance: random.Random) -> str:
    """A UID under 2.25 with as many characters as the placeholders."""
    return f"2.25.1{chance.randrange(10**UID_DIGITS):0{UID_DIGITS}d}"


def template(ds: Dataset) -> Template:
    """Encode a data set in Explicit VR Little Endian under the placeholder UIDs."""
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = INSTANCE, SERIES, STUDY
    pixels, vr = ds.PixelData, "OB" if ds.BitsAllocated == 8 else "OW"
    del ds.PixelData
    del ds.file_meta
    head = BytesIO()
    dcmwrite(head, ds, implicit_vr=False, little_endian=True)
    element = struct.pack("<HH2sxxL", 0x7FE0, 0x0010, vr.encode(), len(pixels)) + pixels
    return Template(str(ds.SOPClassUID), head.getvalue(), element)


def ct() -> Kind:
    """CT slices of 0.5 MB."""
    return Kind("CT 0.5 MB", tuple(template(ds) for ds in synthetic.ct_series(slices=4)))


def tiny() -> Kind:
    """Intra-oral films of 20 KB."""
    films = synthetic.full_mouth_series(scale=0.182)
    return Kind("tiny 20 KB", tuple(template(ds) for ds in films[:4]))


def dx() -> Kind:
    """A panoramic of 13 MB."""
    return Kind("DX 13 MB", (template(synthetic.panoramic(shape=(2400, 2800), bits=16)),))


def cbct() -> Kind:
    """A cone-beam volume of 308 MB in one instance."""
    return Kind("CBCT 308 MB", (template(synthetic.cbct(frames=536, size=536)),))
