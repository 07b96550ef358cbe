"""What is promised of a bucket, on an S3 server that is not moto: the same tests, on Ceph's object gateway.

They are all in this file, because the server takes a while to start, and one start is enough for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import Refused, Unknown
from appliance.lifecycle.storage_class import Tier
from appliance.model import DestinationSettings
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.s3 import S3Destination
from tests.backup.conftest import Clinic, clinic_in, eventually
from tests.backup.test_bucket import test_a_blank_box_the_paper_and_a_bucket  # noqa: F401
from tests.backup.test_past import (  # noqa: F401
    test_a_long_list_of_versions_is_read_page_by_page,
    test_what_came_after_the_moment_and_opens_is_read_whatever_lies_over_it,
    test_what_there_was_is_told_and_written_over_by_nobody,
    test_what_was_written_over_comes_back_as_it_was_and_lies_there_again,
)
from tests.campaigns import reachability, weathers
from tests.campaigns.remote_places import a_bucket_of
from tests.lifecycle.test_altered import (  # noqa: F401
    test_it_ends_after_thirty_five_days,
    test_what_is_found_when_its_bucket_is_asked_is_told_too,
)
from tests.lifecycle.test_asked import (  # noqa: F401
    gone,
    test_each_image_that_is_away_is_asked_for_once_in_a_pass_and_none_is_fetched,
    test_the_same_bytes_as_another_version_are_read_once_and_believed_from_then_on,
    test_what_was_written_over_or_removed_is_taken_from_its_earlier_version_and_written_again,
)
from tests.lifecycle.test_eviction_cloud import (  # noqa: F401
    remote,
    test_a_study_stays_while_one_bit_of_its_object_in_the_bucket_differs,
    test_an_object_that_a_bucket_has_lost_or_damaged_since_is_told_and_never_shown,
    test_an_overwritten_object_comes_as_the_version_that_was_proven,
    test_what_leaves_for_a_bucket_comes_back_byte_for_byte,
)
from tests.lifecycle.test_guard_bucket import (  # noqa: F401
    test_after_a_release_what_two_people_approved_is_destroyed_in_the_bucket_too,
    test_while_the_guard_holds_a_bucket_gets_what_is_new_and_no_version_there_gets_another_over_it,
)
from tests.lifecycle.test_listing import (  # noqa: F401
    stored,
    test_a_bucket_that_has_everything_is_asked_for_its_list_and_nothing_else,
    test_a_copy_that_was_removed_or_written_over_is_mended_while_the_image_is_here,
    test_a_pass_goes_on_where_it_was,
)
from tests.lifecycle.test_purging import (  # noqa: F401
    test_a_backup_from_before_does_not_bring_a_study_back_whose_tombstone_lies_there,
    test_a_purged_patient_is_unreadable_here_in_the_replica_and_in_every_backup,
)
from tests.lifecycle.test_unnamed_versions import (  # noqa: F401
    plain,
    test_a_bucket_says_whether_it_keeps_versions_or_ever_did,
    test_a_bucket_that_keeps_no_versions_is_asked_for_none,
    test_a_pass_that_finds_it_mends_the_bucket,
    test_it_is_taken_from_before_versions_were_kept_and_written_again_as_a_version,
    test_what_is_spoilt_on_the_way_was_altered_by_nobody,
    test_what_was_altered_while_versions_were_suspended_is_lost_and_never_shown,
)
from tests.lifecycle.test_versions_left import (  # noqa: F401
    test_a_bucket_says_what_it_keeps_of_what_was_written_over,
    test_once_a_life_cycle_has_ended_what_was_written_over_nothing_is_left_that_opens,
    test_the_certificate_says_what_the_bucket_keeps,
)
from tests.replication.archive_contract import ArchiveContract
from tests.replication.cloud import Cloud, settings
from tests.replication.gateway import Gateway, gateway, policies_enforced
from tests.replication.receivers import free_port
from tests.replication.test_protection import (  # noqa: F401
    Enforced,
    protected_bucket,
    test_a_bucket_set_as_it_is_printed_has_every_protection_but_from_a_key_that_may_do_everything,
    test_a_key_that_may_remove_something_is_told,
    test_a_life_cycle_that_forgets_too_soon_is_missing,
    test_a_plain_bucket_lacks_them_and_loses_nothing_by_the_question,
    test_overwriting_leaves_the_committed_version_readable_and_locked,
    test_with_the_printed_policy_the_box_works_and_can_undo_nothing_that_was_committed,
)
from tests.replication.test_s3 import (  # noqa: F401
    TestS3,
    destination_at,
    large,
    small,
    test_a_large_object_arrives_in_parts,
    test_a_leftover_upload_without_a_usable_part_is_aborted,
    test_a_part_that_is_not_what_is_here_is_sent_again,
    test_a_resend_of_what_is_there_uploads_nothing,
    test_a_store_that_does_not_verify_has_everything_read_back,
    test_an_interrupted_upload_keeps_its_parts,
    test_an_upload_goes_on_where_it_was_cut,
    test_an_upload_whose_answer_was_lost_is_found_not_repeated,
    test_obsolete_uploads_are_aborted_and_owed_ones_kept,
    test_other_bytes_under_the_key_are_replaced_not_believed,
    test_the_receipt_names_the_version_that_was_read_back,
)

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Gateway]:
    with gateway() as running:
        yield running


class TestGatewayAsArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, the_cloud: Cloud, bucket: str) -> S3Destination:
        return destination_at(the_cloud.url, bucket)

    @pytest.fixture
    def unreachable(self, bucket: str) -> S3Destination:
        return destination_at(f"http://127.0.0.1:{free_port()}", bucket)


@pytest.fixture
def server(the_cloud: Cloud) -> Cloud:
    return the_cloud


@pytest.fixture
def enforced() -> Enforced:
    return policies_enforced


@pytest.fixture
def tells_a_lock_from_a_write() -> bool:
    return True


@pytest.fixture
def place(the_cloud: Cloud) -> DestinationSettings:
    """A bucket as it is printed: versions, lock, life cycle."""
    return settings(the_cloud.url, protected_bucket(the_cloud))


@pytest.fixture
def clinic(tmp_path: Path, place: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", place) as clinic:
        yield clinic


@pytest.mark.parametrize("operation", ["snapshot", "recall", "restore", "purge"])
def test_it_is_whole_in_the_end_whatever_becomes_of_one_request(
    the_cloud: Gateway, tmp_path: Path, operation: str
) -> None:
    with (
        tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds,
        a_bucket_of(the_cloud) as bucket,
    ):
        assert weathers.run(bucket, Path(worlds), operation=operation, most=1, seed=2).faults.total() == 1


def test_images_move_as_the_box_says_and_stay_readable_and_what_a_restore_needs_stays_where_it_is(
    the_cloud: Gateway, bucket: str
) -> None:
    """A life cycle that is carried out, not only stored: the rules as they are printed, but that a day takes a second."""
    client, image, needed = the_cloud.client(), "objects/ab/x.sealed", "manifests/x.sealed"
    near, untold = "objects/ab/y.sealed", "objects/ab/z.sealed"
    told = bucket_policy.bucket_settings({Tier.COLD})["LifecycleConfiguration"]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=told)
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert bucket_policy.moves_of(rules) == {Tier.COLD}, rules
    for key in (image, near, untold, needed, "keys/root.recovery", "snapshots/a/000000"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x" * 200_000)
    box = destination_at(the_cloud.url, bucket)
    with pytest.raises(Unknown):
        box.say_tier("objects/ab/nothing.sealed", Tier.COLD)
    box.say_tier(near, Tier.HOT)
    box.say_tier(image, Tier.COLD)

    def has_moved() -> bool:
        the_cloud.days_go_by(bucket)
        return client.head_object(Bucket=bucket, Key=image).get("StorageClass") == "GLACIER_IR"

    eventually(has_moved, seconds=120)
    assert b"".join(box.blocks(image)) == b"x" * 200_000
    for key in (near, untold, needed, "keys/root.recovery", "snapshots/a/000000"):
        assert client.head_object(Bucket=bucket, Key=key).get("StorageClass", "STANDARD") == "STANDARD"


def test_old_backups_end_by_the_buckets_own_rule_and_nothing_else_does(
    the_cloud: Gateway, bucket: str
) -> None:
    """The rule as it is printed, but of one day, which takes a second."""
    client, ends = the_cloud.client(), "snapshots/a/index"
    wanted = ("objects/ab/x.sealed", "manifests/x.sealed", "kept/x.sealed", "keys/root.recovery")
    rules = bucket_policy.bucket_settings()["LifecycleConfiguration"]["Rules"]
    for each in rules:
        if "Expiration" in each:
            each["Expiration"] = {"Days": 1}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    for key in (ends, *wanted):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")

    def has_ended() -> bool:
        the_cloud.days_go_by(bucket)
        return ends not in the_cloud.keys(bucket)

    eventually(has_ended, seconds=120)
    assert set(wanted) <= set(the_cloud.keys(bucket))


def test_a_name_that_is_taken_stays_whatever_the_store_makes_of_the_condition(
    the_cloud: Cloud, bucket: str
) -> None:
    destination = destination_at(the_cloud.url, bucket)
    destination.put_new("anchors/one", b"first")
    with pytest.raises(Refused):
        destination.put_new("anchors/one", b"second")
    assert the_cloud.get(bucket, "anchors/one") == b"first"
