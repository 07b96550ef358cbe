"""Files: what we write the library reads, and what exporters get wrong we read."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import dcmread

from appliance.dicom.part10 import IMPLEMENTATION_CLASS_UID, file_head, read_part10
from appliance.errors import NotUnderstood
from appliance.model import Uid

from .corpus import paths, samples
from .peers import BIG_ENDIAN, CT, EXPLICIT, IMPLICIT
from .test_header import encoded

CLASS, INSTANCE = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.3.4")


def head(syntax: str = EXPLICIT, source: str = "MODALITY") -> bytes:
    return file_head(
        sop_class_uid=CLASS,
        sop_instance_uid=INSTANCE,
        transfer_syntax_uid=Uid(syntax),
        source_ae_title=source,
    )


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_the_library_reads_what_we_write(syntax: str) -> None:
    dataset = dcmread(io.BytesIO(head(syntax) + encoded(syntax=syntax)))
    meta = dataset.file_meta
    assert dataset.preamble == bytes(128)
    assert meta.FileMetaInformationGroupLength == len(head(syntax)) - 144
    assert [str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)] == [CLASS, INSTANCE]
    assert [str(meta.TransferSyntaxUID), str(meta.ImplementationClassUID)] == [
        syntax,
        IMPLEMENTATION_CLASS_UID,
    ]
    assert meta.SourceApplicationEntityTitle == "MODALITY"
    assert dataset.StudyInstanceUID == "1.2.3"


uids = st.from_regex(r"[1-2](\.[0-9]{1,9}){1,6}", fullmatch=True).map(Uid)


@given(uids, uids, uids, st.from_regex(r"[A-Z0-9_]{0,16}", fullmatch=True))
def test_what_is_written_is_read_back(sop_class: Uid, instance: Uid, syntax: Uid, source: str) -> None:
    written = file_head(
        sop_class_uid=sop_class, sop_instance_uid=instance, transfer_syntax_uid=syntax, source_ae_title=source
    )
    read = read_part10(io.BytesIO(written + b"whatever follows"))
    assert (read.sop_class_uid, read.sop_instance_uid) == (sop_class, instance)
    assert (read.transfer_syntax_uid, read.source_ae_title) == (syntax, source)
    assert read.dataset_offset == len(written)
    assert len(written) % 2 == 0


def test_a_wrong_group_length_is_not_believed() -> None:
    right = head()
    for wrong in (0, 10, 0xFFFFFFFF):
        broken = right[:140] + wrong.to_bytes(4, "little") + right[144:]
        assert read_part10(io.BytesIO(broken + encoded())).dataset_offset == len(right)


@pytest.mark.parametrize("cut", [128, 132], ids=["no preamble", "no prefix either"])
def test_files_without_preamble_are_read(cut: int) -> None:
    read = read_part10(io.BytesIO(head()[cut:] + encoded()))
    assert (read.sop_instance_uid, read.dataset_offset) == (INSTANCE, len(head()) - cut)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("before", [b"", bytes(128) + b"DICM"], ids=["bare", "prefix only"])
def test_a_data_set_without_meta_speaks_for_itself(syntax: str, before: bytes) -> None:
    read = read_part10(io.BytesIO(before + encoded(syntax=syntax)))
    assert (read.sop_class_uid, read.sop_instance_uid, read.transfer_syntax_uid) == (CT, INSTANCE, syntax)
    assert read.dataset_offset == len(before)


@pytest.mark.parametrize(
    "data", [b"", b"PK\3\4" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(300), bytes(1000), b"DICM"]
)
def test_other_files_are_not_understood(data: bytes) -> None:
    with pytest.raises(NotUnderstood):
        read_part10(io.BytesIO(data))


def test_meta_that_runs_past_the_end_is_not_understood() -> None:
    for length in range(145, len(head())):
        with pytest.raises(NotUnderstood):
            read_part10(io.BytesIO(head()[:length]))


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
def test_every_file_of_the_library_is_read_or_not_understood(path: object) -> None:
    with path.open("rb") as stream:  # type: ignore[attr-defined]
        try:
            read_part10(stream)
        except NotUnderstood:
            assert path not in {sample.name for sample in samples()}


@given(st.binary(max_size=300), st.booleans())
def test_rubbish_is_read_or_not_understood(data: bytes, prefixed: bool) -> None:
    stream = io.BytesIO((bytes(128) + b"DICM" if prefixed else b"") + data)
    try:
        read_part10(stream)
    except NotUnderstood:
        pass
