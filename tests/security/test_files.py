"""What comes from outside is never a program here, never a path, and leaves without the place where one could hide."""

import ast
import io
import re
from pathlib import Path

import pytest

from appliance.dicom.part10 import file_head
from appliance.ingest import import_file
from appliance.model import Intake, Origin
from tests.boxes import box_in, recorded
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance
from tests.security import source

PREAMBLE_BYTES = 128
PROGRAMS = {
    "Windows": b"MZ\x90\x00",
    "Linux": b"\x7fELF",
    "script": b"#!/bin/sh\nrm -rf /\n",
    "page": b"<script>x()</script>",
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_program_in_front_of_an_image_is_not_kept(tmp_path: Path, what: str) -> None:
    instance = Instance(7)
    head = file_head(
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        source_ae_title="ELSEWHERE",
    )
    hidden = PROGRAMS[what].ljust(PREAMBLE_BYTES, b"\x90")
    assert head[:PREAMBLE_BYTES] == bytes(PREAMBLE_BYTES)
    with box_in(tmp_path) as box:
        import_file(
            box,
            io.BytesIO(hidden + head[PREAMBLE_BYTES:] + instance.data_set),
            Origin(Intake.IMPORT, "tests"),
        )
        (row,) = recorded(box)
        with box.open_object(row.object_id, row.key_id) as reader:
            kept = reader.read()
    assert kept[:PREAMBLE_BYTES] == bytes(PREAMBLE_BYTES)
    assert instance.data_set in kept
    assert PROGRAMS[what] not in kept


def test_paths_are_joined_of_our_own_names_only() -> None:
    """Nothing that stands on an instance (UIDs, names, AE titles) is ever an operand of a path."""
    foreign = re.compile(r"(uid|ae_title|patient|description|file_?name|filename)", re.IGNORECASE)
    for module, node in source.nodes():
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            right = ast.unparse(node.right)
            assert not foreign.search(right) or module in BY_DIGEST, (module, right)


BY_DIGEST = {"replication/destinations/folder"}
"""Where the digest of a UID is the name."""
