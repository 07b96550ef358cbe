"""Which options of an archive say where it is: an archive that moves is another one, and no receipt of the first counts for it."""

import pytest

from appliance.configuration import OPTIONS
from appliance.replication.recall import is_same_place

ARCHIVES = ("s3", "vault", "sftp", "smb")
NOT_A_PLACE = {"access_key_id", "canadian", "login", "host_key", "public_key", "domain", "server_name"}
"""How one comes in, and what is known of who answers; whatever else an option may be, it says where the copies are."""


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option) for kind in ARCHIVES for option in OPTIONS[kind]],  # type: ignore[index]
)
def test_an_archive_with_another_place_is_another_archive(kind: str, option: str) -> None:
    before = dict.fromkeys(set(OPTIONS[kind]) - ({"mark"} - {option}), "one")  # type: ignore[index]
    moved = {**before, option: "other"}
    assert is_same_place(before, moved) == (option in NOT_A_PLACE), f"{kind}: {option}"


def test_a_disk_is_known_by_its_mark_wherever_it_is_mounted() -> None:
    assert is_same_place({"path": "/one", "mark": "m"}, {"path": "/other", "mark": "m"})
    assert not is_same_place({"path": "/one", "mark": "m"}, {"path": "/one", "mark": "n"})
    assert not is_same_place({"path": "/one", "mark": ""}, {"path": "/other", "mark": ""})
