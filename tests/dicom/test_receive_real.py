"""Real peers against the real process: what they send is recorded, byte for byte, or refused with the right status."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread
from pydicom.uid import UID, generate_uid
from pynetdicom import AE

from appliance.dicom.part10 import read_part10
from appliance.errors import NotUnderstood

from .appliances import ReceivingAppliance, receiving, sha256
from .conftest import eventually
from .corpus import cut_short, paths, samples
from .peers import BIG_ENDIAN, CT, DEFLATED, EXPLICIT, IMPLICIT, Aborted, Closed, p_data, pdv
from .test_header import element, encoded

pytestmark = pytest.mark.slow

MARKER = "ZZMARKERZZ^CLEAR"


@pytest.fixture
def appliance(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[ReceivingAppliance]:
    with receiving(tmp_path, free_port()) as running:
        yield running


def ct(instance: str, *, pixels: int = 2000, name: str = "DOE^JANE", study: str = "1.2.3") -> bytes:
    """A data set, Explicit VR Little Endian, with as many bytes of noise for pixels."""
    noise = np.random.default_rng(pixels).bytes(pixels + pixels % 2)
    return encoded(
        {
            (0x0008, 0x0018): ("UI", instance.encode() + b"\0" * (len(instance) % 2)),
            (0x0010, 0x0010): ("PN", name.encode() + b" " * (len(name) % 2)),
            (0x0020, 0x000D): ("UI", study.encode() + b"\0" * (len(study) % 2)),
            (0x7FE0, 0x0010): ("OW", noise),
        }
    )


def test_every_readable_file_of_the_library_is_kept_byte_for_byte(appliance: ReceivingAppliance) -> None:
    expected = set()
    for sample in samples():
        with appliance.peer() as peer:
            peer.associate([(1, sample.sop_class_uid, [sample.transfer_syntax_uid])])
            answer = peer.store(sample.data_set, sample.sop_instance_uid, sample.sop_class_uid)
            assert answer.status == 0, (sample.name, answer.comment)
            peer.release()
        expected.add((sample.sop_instance_uid, sha256(sample.data_set)))
    assert appliance.digests(len(expected)) == sorted(expected)
    for row in appliance.recorded(len(expected)):
        with appliance.box.open_object(row.object_id, row.key_id) as reader:
            head = read_part10(io.BytesIO(reader.read() or b""))
        assert head.transfer_syntax_uid == row.transfer_syntax_uid
        assert head.source_ae_title == "MODALITY"


def test_a_data_set_cut_short_is_refused_and_leaves_nothing(appliance: ReceivingAppliance) -> None:
    """Acknowledged, it would be deleted where it came from: half an image for a whole one."""
    whole = ct("1.2.3.5", pixels=3_000_000)
    with appliance.peer() as peer:
        peer.associate([(1, CT, [EXPLICIT])])
        for size in (len(whole) - 2, 2_500_000, 1 << 20, 300):
            answer = peer.store(whole[:size], "1.2.3.5")
            assert (answer.status, answer.comment) == (0xC000, "the data set was cut short"), size
        assert peer.store(whole, "1.2.3.5").status == 0, (
            "the association goes on, and the original is welcome"
        )
        peer.release()
    for sample in cut_short():
        with appliance.peer() as peer:
            peer.associate([(1, sample.sop_class_uid, [sample.transfer_syntax_uid])])
            assert peer.store(sample.data_set, sample.sop_instance_uid, sample.sop_class_uid).status == 0xC000
            peer.release()
    appliance.recorded(1)
    objects = appliance.data / "objects"
    assert len([each for each in objects.rglob("*") if each.is_file()]) == 1


def test_files_that_name_no_instance_are_not_understood_and_leave_nothing(
    appliance: ReceivingAppliance,
) -> None:
    readable = {sample.data_set for sample in (*samples(), *cut_short())}
    refused = 0
    with appliance.peer() as peer:
        peer.associate([(1, CT, [EXPLICIT]), (3, CT, [IMPLICIT])])
        for path in paths():
            data = path.read_bytes()
            try:
                data = data[read_part10(io.BytesIO(data)).dataset_offset :]
            except NotUnderstood:
                pass
            if data in readable:
                continue
            answer = peer.store(data, "1.2.3.4", context_id=1 + 2 * (refused % 2))
            assert answer.status in (0xC000, 0xA900), path.name
            refused += 1
        peer.release()
    assert refused > 10
    assert appliance.recorded(0) == []
    assert not [each for each in (appliance.data / "objects").rglob("*") if each.is_file()]


def test_a_data_set_of_another_instance_or_class_is_a_mismatch(appliance: ReceivingAppliance) -> None:
    with appliance.peer() as peer:
        peer.associate([(1, "1.2.840.10008.5.1.4.1.1.4", [EXPLICIT])])
        assert peer.store(ct("1.2.3.5"), "1.2.3.6", CT).status == 0xA900
        assert peer.store(ct("1.2.3.5"), "1.2.3.5", "1.2.840.10008.5.1.4.1.1.4").status == 0xA900
        assert peer.store(ct("1.2.3.5"), "1.2.3.5", CT).status == 0
    appliance.recorded(1)


def test_identical_resend_is_success_and_writes_nothing(appliance: ReceivingAppliance) -> None:
    for _ in range(3):
        with appliance.peer() as peer:
            peer.associate()
            assert peer.store(ct("1.2.3.5"), "1.2.3.5").status == 0
            peer.release()
        appliance.recorded(1)


def test_same_instance_with_other_bytes_is_kept_beside(appliance: ReceivingAppliance) -> None:
    with appliance.peer() as peer:
        peer.associate()
        assert peer.store(ct("1.2.3.5"), "1.2.3.5").status == 0
        assert peer.store(ct("1.2.3.5", pixels=3000), "1.2.3.5").status == 0
    rows = appliance.recorded(2)
    assert {row.version for row in rows} == {0, 1}


# --- DCMTK -----------------------------------------------------------------------------------------------------------


def dcmtk(tool: str) -> str:
    """DCMTK's own tool, not the script of that name that a Python package may have put on the path."""
    found = shutil.which(tool, path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin")
    assert found is not None, "install the Debian package dcmtk"
    return found


def storescu(appliance: ReceivingAppliance, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            dcmtk("storescu"),
            "-aet",
            "STORESCU",
            "-to",
            "30",
            *arguments[:-1],
            "127.0.0.1",
            str(appliance.port),
            arguments[-1],
        ],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def secondary_capture(path: Path, syntax: str, *, size: int = 64, name: str = "DOE^JANE") -> Dataset:
    """A small colourless image on disk; for a compressed `syntax` its one frame is opaque to all who pass it on."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = name, "4711", "OT"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = size
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    pixels = np.random.default_rng(1).bytes(size * size)
    dataset.PixelData = encapsulate([pixels]) if UID(syntax).is_encapsulated else pixels
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return dataset


OPTIONS = {
    "-x=": EXPLICIT,
    "-xe": EXPLICIT,
    "-xb": BIG_ENDIAN,
    "-xi": IMPLICIT,
    "-xd": DEFLATED,
    "-xs": "1.2.840.10008.1.2.4.70",
    "-xy": "1.2.840.10008.1.2.4.50",
    "-xx": "1.2.840.10008.1.2.4.51",
    "-xv": "1.2.840.10008.1.2.4.90",
    "-xw": "1.2.840.10008.1.2.4.91",
    "-xt": "1.2.840.10008.1.2.4.80",
    "-xu": "1.2.840.10008.1.2.4.81",
    "-xm": "1.2.840.10008.1.2.4.100",
    "-xh": "1.2.840.10008.1.2.4.101",
    "-xn": "1.2.840.10008.1.2.4.102",
    "-xl": "1.2.840.10008.1.2.4.103",
    "-x2": "1.2.840.10008.1.2.4.104",
    "-x3": "1.2.840.10008.1.2.4.105",
    "-xo": "1.2.840.10008.1.2.4.106",
    "-x4": "1.2.840.10008.1.2.4.107",
    "-x5": "1.2.840.10008.1.2.4.108",
    "-xr": "1.2.840.10008.1.2.5",
}


def test_dcmtk_sends_every_syntax_it_can_propose(appliance: ReceivingAppliance, tmp_path: Path) -> None:
    originals = {}
    for number, (option, syntax) in enumerate(OPTIONS.items()):
        path = tmp_path / f"{number}.dcm"
        dataset = secondary_capture(path, syntax)
        originals[str(dataset.SOPInstanceUID)] = (option, syntax, dataset)
        sent = storescu(appliance, option, "-R", str(path))
        assert sent.returncode == 0, (option, sent.stderr, appliance.log())
    for row in appliance.recorded(len(OPTIONS)):
        option, syntax, original = originals[row.sop_instance_uid]
        assert row.transfer_syntax_uid == syntax, option
        with appliance.box.open_object(row.object_id, row.key_id) as reader:
            stored = dcmread(io.BytesIO(reader.read() or b""))
        assert {each.tag: each.value for each in stored} == {each.tag: each.value for each in original}, (
            option
        )


def test_dcmtk_proposes_everything_at_once(appliance: ReceivingAppliance, tmp_path: Path) -> None:
    secondary_capture(tmp_path / "one.dcm", EXPLICIT)
    sent = storescu(appliance, "-v", str(tmp_path / "one.dcm"))
    assert sent.returncode == 0, sent.stderr
    appliance.recorded(1)


def test_dcmtk_invents_instances(appliance: ReceivingAppliance, tmp_path: Path) -> None:
    secondary_capture(tmp_path / "one.dcm", EXPLICIT)
    sent = storescu(appliance, "+II", "--repeat", "25", str(tmp_path / "one.dcm"))
    assert sent.returncode == 0, sent.stderr
    assert len({row.sop_instance_uid for row in appliance.recorded(25)}) == 25


def test_dcmtk_aborts_instead_of_releasing(appliance: ReceivingAppliance, tmp_path: Path) -> None:
    secondary_capture(tmp_path / "one.dcm", EXPLICIT)
    sent = storescu(appliance, "--abort", str(tmp_path / "one.dcm"))
    assert sent.returncode == 0, sent.stderr
    appliance.recorded(1)
    assert appliance.answers() or wait_until_answers(appliance)


def test_dcmtk_echo(appliance: ReceivingAppliance) -> None:
    command = [dcmtk("echoscu"), "-aet", "STORESCU", "127.0.0.1", str(appliance.port)]
    subprocess.run(command, check=True, timeout=60)
    stranger = [dcmtk("echoscu"), "-aet", "NOBODY", "127.0.0.1", str(appliance.port)]
    refused = subprocess.run(stranger, check=False, timeout=60, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr


def wait_until_answers(appliance: ReceivingAppliance) -> bool:
    eventually(appliance.answers, "the appliance does not answer any more")
    return True


# --- peers that break off --------------------------------------------------------------------------------------------


def test_sender_killed_in_mid_transfer_leaves_nothing_and_nothing_in_clear(
    appliance: ReceivingAppliance, tmp_path: Path
) -> None:
    whole = ct("1.2.3.5", pixels=200_000, name=MARKER)
    large = ct("1.2.3.6", pixels=8_000_000, name=MARKER)
    for how in ("abort", "reset"):
        with appliance.peer() as peer:
            peer.associate()
            assert peer.store(whole, "1.2.3.5").status == 0
            peer.begin_store("1.2.3.6")
            for start in range(0, 6_000_000, 16_000):
                peer.send(p_data(pdv(1, 0, large[start : start + 16_000])))
            eventually(lambda: len(objects(appliance)) > 1, "the transfer did not reach the disk")
            assert_no_clear_byte(tmp_path)
            if how == "abort":
                peer.send(b"\7\0\0\0\0\4\0\0\0\0")
        eventually(lambda: len(objects(appliance)) == 1, "what was abandoned is still there")
    appliance.recorded(1)
    assert_no_clear_byte(tmp_path)


def objects(appliance: ReceivingAppliance) -> list[Path]:
    return [each for each in (appliance.data / "objects").rglob("*") if each.is_file()]


def assert_no_clear_byte(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert MARKER.encode() not in path.read_bytes(), path


def test_logs_name_no_patient_and_no_instance(appliance: ReceivingAppliance) -> None:
    with appliance.peer() as peer:
        peer.associate()
        assert peer.store(ct("1.2.3.5.99887766", name=MARKER), "1.2.3.5.99887766").status == 0
        assert peer.store(ct("1.2.3.5.99887766", name=MARKER)[:-5000], "1.2.3.5.11223344").status != 0
        peer.release()
    appliance.recorded(1)
    appliance.stop()
    assert "device=MODALITY" in appliance.log()
    for word in (MARKER, "99887766", "11223344", "ZZMARKERZZ"):
        assert word not in appliance.log()


def test_fifty_concurrent_associations(appliance: ReceivingAppliance) -> None:
    expected: list[tuple[str, str]] = []
    failures: list[object] = []

    def send(number: int) -> None:
        try:
            with appliance.peer() as peer:
                peer.associate()
                for k in range(3):
                    uid = f"1.2.3.{number}.{k}"
                    data = ct(uid, pixels=20_000 + 400_000 * (k == 2), study=f"1.2.{number}")
                    status = peer.store(data, uid).status
                    expected.append((uid, sha256(data)))
                    if status:
                        failures.append((uid, status))
                peer.release()
        except (Aborted, Closed, OSError) as error:
            failures.append((number, error))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 51)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert appliance.digests(150) == sorted(expected)


def test_the_library_as_sender(appliance: ReceivingAppliance, tmp_path: Path) -> None:
    dataset = secondary_capture(tmp_path / "one.dcm", EXPLICIT)
    entity = AE("PYNETDICOM")
    entity.dimse_timeout = 5
    entity.add_requested_context("1.2.840.10008.1.1")
    entity.add_requested_context(dataset.SOPClassUID, [EXPLICIT])

    def sends() -> bool:  # it loses an answer now and then (pynetdicom#875): sending again is harmless
        association = entity.associate("127.0.0.1", appliance.port, ae_title="WHATEVER")
        if not association.is_established:
            return False
        echo, store = association.send_c_echo(), association.send_c_store(dataset)
        association.release()
        return (echo.get("Status"), store.get("Status")) == (0, 0)

    eventually(sends, f"the library could not send:\n{appliance.log()}")
    (row,) = appliance.recorded(1)
    with appliance.box.open_object(row.object_id, row.key_id) as reader:
        assert dcmread(io.BytesIO(reader.read() or b"")) == dataset


def test_an_object_of_many_segments(appliance: ReceivingAppliance) -> None:
    data = ct("1.2.3.5", pixels=40_000_000)
    with appliance.peer() as peer:
        peer.associate()
        assert peer.store(data, "1.2.3.5", fragment_bytes=131_066).status == 0
        peer.release()
    assert appliance.digests(1) == [("1.2.3.5", sha256(data))]


def test_long_private_header_before_the_study(appliance: ReceivingAppliance) -> None:
    blob = element((0x0009, 0x1001), "OB", bytes(3_000_000))
    data = encoded({(0x0008, 0x0018): ("UI", b"1.2.3.50")}, raw={(0x0009, 0x1001): blob})
    with appliance.peer() as peer:
        peer.associate()
        assert peer.store(data, "1.2.3.50").status == 0
    assert appliance.digests(1) == [("1.2.3.50", sha256(data))]
