"""``appliance backup`` and ``appliance restore``: snapshots in the archives, and a blank box made from one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table, safe
from appliance.cli.servers import add_server, add_share, server_options, share_options
from appliance.cli.session import actor, now, opened_box, read_private_key, read_secret
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Unknown
from appliance.model import DestinationSettings

if TYPE_CHECKING:
    from appliance.backup.inventory import Held
    from appliance.box import Box
    from appliance.replication.destinations import Archive
    from appliance.store.recovery import RecoveryKey

COLUMNS = {
    "archive": "ARCHIVE",
    "name": "NAME",
    "made": "MADE",
    "studies": "STUDIES",
    "instances": "IMAGES",
    "bytes": "BYTES",
    "proof": "PROOF",
}

TO_CHOOSE = {
    "name": "NAME",
    "made": "MADE",
    "studies": "STUDIES",
    "instances": "IMAGES",
    "software": "VERSION",
}


def add_to(verbs: Verbs) -> None:
    """Add both verbs."""
    backup = verbs.add(
        "backup",
        "snapshots of the index, the keys and the settings",
        about="Backups are laid in every archive: cloud storage (s3), disks (vault), file servers (sftp) and shares (smb). They are made by "
        "themselves, every day unless set otherwise. The images are there already: their copies leave as they arrive.",
        examples=["appliance backup now --to cloud", "appliance backup list"],
    )
    own = Verbs(backup)
    make = own.add("now", "make a backup now", act=back_up)
    make.add_argument("--to", metavar="NAME", help="one archive only (default: every one)")
    listing = own.add(
        "list",
        "show the backups that the archives hold, the newest first",
        act=list_backups,
        about="Read from the archives themselves. The proof says what the latest drill of each has found: passed, failed, "
        "untried, or damaged for one that does not say what was written. With --json, 'key_opens' is false for one whose key is "
        "damaged, gone or another box's: it can't be restored.",
    )
    listing.add_argument("--of", metavar="NAME", help="of one archive only")
    add_json(listing)
    tried = own.add(
        "drill",
        "try out the newest backup: fetch it, open it, count it, and bring back a sample of its images",
        act=drill_backups,
        about="Nothing on this box is touched. The box does it by itself once a week; what was found is kept.",
    )
    tried.add_argument("--of", metavar="NAME", help="of one archive only")
    add_json(tried)
    restore = verbs.add(
        "restore",
        "make this blank box the one that an archive remembers",
        about="Needs an empty data folder, the recovery key on paper, and any one archive. The index comes first and the "
        "box can go into service; images come when they are wanted, and by and by. A restore that was cut goes on. The newest backup is "
        "taken unless --backup names another: one from before an hour of which somebody has done harm. What came later is read from the "
        "study manifests then, too, and what was destroyed since stays destroyed; users and settings are as they were.",
        examples=[
            "appliance restore s3 --bucket my-clinic --region ca-central-1 --access-key-id AK… \\",
            "    --recovery-key-file paper.txt <secret.txt",
            "appliance restore s3 --bucket my-clinic --region ca-central-1 --access-key-id AK… --as-of 2026-11-25",
            "appliance restore folder --path /media/backup --recovery-key-file paper.txt",
            "appliance restore folder --path /media/backup --list",
            "appliance restore folder --path /media/backup --backup 20261125T033000Z-0123abcd",
            "appliance restore sftp --address 192.168.1.20 --user clinicbox --folder backup --fingerprint SHA256:… \\",
            "    --recovery-key-file paper.txt <password.txt",
            "appliance restore smb --address 192.168.1.20 --share backup --user clinicbox \\",
            "    --recovery-key-file paper.txt <password.txt",
        ],
    )
    _add_sources(Verbs(restore))


def _add_sources(sources: Verbs) -> None:
    s3 = sources.add(
        "s3", "from cloud storage; the secret access key is read from standard input", act=restore_s3
    )
    s3.add_argument("--bucket", required=True, metavar="B", help="the bucket")
    s3.add_argument("--region", required=True, metavar="R", help="its region, such as ca-central-1")
    s3.add_argument("--endpoint-url", metavar="U", help="another provider's address")
    s3.add_argument(
        "--canadian", action="store_true", help="I declare that this address keeps objects in Canada"
    )
    s3.add_argument("--access-key-id", metavar="K", help="the access key's id; its secret is then read")
    s3.add_argument("--secret-file", type=Path, metavar="F", help="a file with the secret access key")
    s3.add_argument(
        "--as-of",
        metavar="MOMENT",
        help="restore the bucket as it stood then, from the earlier versions that it keeps, when somebody has written over or removed what "
        "lies there: 2026-11-25T18:00:00-05:00, by this machine's clock without a zone; a day alone is its end. What came later and still "
        "opens is read all the same. The key has to be allowed to list versions",
    )
    folder = sources.add("folder", "from a disk or a share that is mounted", act=restore_folder)
    folder.add_argument("--path", required=True, type=Path, metavar="P", help="where it is mounted")
    sftp = sources.add(
        "sftp",
        "from a file server; the password is read from standard input, or a key from a file",
        act=restore_sftp,
        about="Without --fingerprint, the server's key is shown and nothing else is done. A box that came in by a key of its own "
        "has lost it with everything else: give the server's user a password for the day, or make a key, copy its public "
        "half to the server, and name its file with --key-file.",
    )
    add_server(sftp)
    sftp.add_argument(
        "--key-file",
        type=Path,
        metavar="F",
        help="a file with an Ed25519 key that the server lets in, readable by you only; instead of a password",
    )
    smb = sources.add("smb", "from a share; the password is read from standard input", act=restore_smb)
    add_share(smb)
    for source in (s3, folder, sftp, smb):
        source.add_argument(
            "--list",
            action="store_true",
            help="show the backups that the recovery key opens, and restore nothing",
        )
        source.add_argument(
            "--backup",
            metavar="NAME",
            default="",
            help="restore this one (default: the newest that is whole)",
        )
        source.add_argument(
            "--recovery-key-file",
            type=Path,
            metavar="F",
            help="a file with the recovery key, readable by you only (default: it is asked for)",
        )


def back_up(arguments: Arguments) -> int:
    """Make a backup in one archive, or in each; the first failure is the exit code, once all were tried."""
    from appliance.backup import making

    failure: ApplianceError | None = None
    with opened_box() as box:
        with box.catalog.reading() as reading:
            keep = _keep(box)
            places = _chosen(making.archives(reading), arguments.to)
        for place in places:
            try:
                made = making.back_up(box, place, now(), actor=actor(), keep=keep, tell=_progress(place.name))
            except ApplianceError as error:
                _say_which(place, error, places)
                failure = failure or error
            else:
                print(
                    f"{safe(place.name)}: {made.name}, {made.contents.instances} images, {made.size_bytes} bytes"
                )
    if failure is not None:
        raise failure
    return 0


def list_backups(arguments: Arguments) -> int:
    """Show what the archives hold. One that is away hides no other; the first failure is the exit code, once all were asked."""
    from appliance.backup import inventory, making

    rows: list[dict[str, Any]] = []
    found: list[Held] = []
    failure: ApplianceError | None = None
    with opened_box() as box:
        with box.catalog.reading() as reading:
            places = _chosen(making.archives(reading), arguments.of)
        for place in places:
            try:
                archive = making.archive_at(box, place)
                for each in inventory.take(box, place, most=sys.maxsize).held:
                    opens = inventory.key_opens(box, archive, each.name) if arguments.json else None
                    found.append(each)
                    rows.append(_row(place.name, each, opens=opens))
            except ApplianceError as error:
                _say_which(place, error, places)
                failure = failure or error
    newest = {each.name: number for number, each in enumerate(inventory.in_order(found, now()))}
    rows.sort(key=lambda row: newest[row["name"]])
    if arguments.json:
        as_json(rows)
    elif rows or failure is None:  # where one is away, nobody knows that there is none
        shown = [row | {"made": f"{row['made_utc'][:16].replace('T', ' ')} UTC"} for row in rows]
        as_table(COLUMNS, shown, empty="There is no backup yet: 'appliance backup now' makes one.")
    if failure is not None:
        raise failure
    return 0


def _row(archive: str, held: Held, *, opens: bool | None) -> dict[str, Any]:
    index = held.index
    return {
        "archive": archive,
        "name": held.name,
        "made_utc": held.made_utc.isoformat(),
        "software": None if index is None else index.software,
        "studies": None if index is None else index.contents.studies,
        "instances": None if index is None else index.contents.instances,
        "bytes": None if index is None else index.size_bytes,
        "proof": str(held.proof),
        "key_opens": opens,
    }


def drill_backups(arguments: Arguments) -> int:
    """Try out backups. Raises `Corrupt` when one is not as it should be, otherwise the first failure, once all were tried."""
    from dataclasses import asdict

    from appliance.backup import drill, making

    found: list[drill.Certificate] = []
    failure: ApplianceError | None = None
    untried: Unknown | None = None
    with opened_box() as box:
        with box.catalog.reading() as reading:
            places = _chosen(making.archives(reading), arguments.of)
        for place in places:
            try:
                found.append(drill.drill(box, place, now(), actor=actor()))
            except ApplianceError as error:
                _say_which(place, error, places)
                if isinstance(error, Unknown):
                    untried = error
                elif failure is None or (isinstance(error, Corrupt) and not isinstance(failure, Corrupt)):
                    failure = error
    if arguments.json and (found or failure is not None):
        as_json([asdict(each) | {"passed": each.passed} for each in found])
    elif found:
        print("\n\n".join(str(each) for each in found))
    if not all(each.passed for each in found):
        raise Corrupt("a backup is not as it should be", hint="make a new backup, and try that one out")
    if failure is not None:
        raise failure
    if untried is not None and not found:
        raise untried
    return 0


def restore_s3(arguments: Arguments) -> int:
    """Restore from a bucket."""
    options: dict[str, str | int | bool] = {"bucket": arguments.bucket, "region": arguments.region}
    if arguments.endpoint_url:
        options["endpoint_url"] = arguments.endpoint_url
    if arguments.canadian:
        options["canadian"] = True
    secret = ""
    if arguments.access_key_id:
        options["access_key_id"] = arguments.access_key_id
        secret = read_secret("Secret access key", file=arguments.secret_file)
    return _restore(arguments, DestinationSettings("cloud", "s3", "ciphertext", options, secret))


def restore_folder(arguments: Arguments) -> int:
    """Restore from a disk."""
    from appliance.replication.destinations import prepare

    path = str(arguments.path.expanduser().absolute())
    return _restore(arguments, prepare(DestinationSettings("disk", "vault", "ciphertext", {"path": path})))


def restore_sftp(arguments: Arguments) -> int:
    """Restore from a file server whose key was compared."""
    from appliance.replication.destinations import sftp

    place = DestinationSettings("nas", "sftp", "ciphertext", server_options(arguments, "password"))
    if arguments.key_file and arguments.secret_file:
        raise Refused("--secret-file is of no use with --key-file", hint="give one of the two")
    if arguments.key_file:
        place = sftp.by_key(place, read_private_key(arguments.key_file))
    else:
        place = replace(place, secret=read_secret("Password", file=arguments.secret_file))
    if not arguments.fingerprint:
        shown = sftp.SftpServer.from_settings(place).shown_key()
        raise Refused(
            f"the server shows the key {shown}",
            hint="compare it with what the server shows itself, and give it with --fingerprint",
        )
    return _restore(arguments, sftp.trust(place, arguments.fingerprint))


def restore_smb(arguments: Arguments) -> int:
    """Restore from a share."""
    from appliance.replication.destinations import prepare

    secret = read_secret("Password", file=arguments.secret_file)
    place = DestinationSettings("share", "smb", "ciphertext", share_options(arguments), secret)
    return _restore(arguments, prepare(place))


def _restore(arguments: Arguments, place: DestinationSettings) -> int:
    import os

    from appliance.backup import restoring
    from appliance.config import load_config
    from appliance.replication.destinations import Archive, build
    from appliance.replication.destinations.past import as_it_was
    from appliance.store.recovery import RecoveryKey

    class Sender:
        config = load_config(os.environ)

    key = RecoveryKey.parse(read_secret("Recovery key", file=arguments.recovery_key_file))
    archive = build(place, Sender())
    assert isinstance(archive, Archive)
    as_of = _moment(getattr(arguments, "as_of", None))
    if as_of is not None:
        print(f"As it stood at {as_of:%Y-%m-%d %H:%M:%S %z}.", file=sys.stderr)
    if arguments.list:
        return _list(archive if as_of is None else as_it_was(archive, as_of), key)
    restored = restoring.restore(
        Sender.config, archive, place, key, tell=_told, actor=actor(), backup=arguments.backup, as_of=as_of
    )
    print(file=sys.stderr)
    by = f"the backup {restored.snapshot.name}" if restored.snapshot else "the studies' manifests alone"
    print(f"Restored by {by}: {restored.studies} studies, {restored.instances} images.")
    if restored.damaged_snapshots:
        print(f"{restored.damaged_snapshots} newer backups were damaged, or not given back, and passed over.")
    if restored.rebuilt.destroyed:
        print(
            f"{restored.rebuilt.destroyed} studies that it remembers were destroyed since then: they stay destroyed."
        )
    if restored.rebuilt.damaged:
        print(
            f"{restored.rebuilt.damaged} manifests were damaged: call support before anything is removed there."
        )
        if place.kind == "s3" and as_of is None:
            print(
                "If somebody has written over them: restore anew into an empty folder, with --as-of and a moment before."
            )
    if restored.rebuilt.kept_back:
        print(
            f"{len(restored.rebuilt.kept_back)} manifests were not given back by their disk: look at its plug and cable, and leave it on. "
            "The box tries them again each day."
        )
    if restored.rebuilt.later_paper:
        print(
            f"{len(restored.rebuilt.later_paper)} manifests open only with a later recovery key than the one that was typed: "
            "if there is a later one, restore anew with it into an empty folder."
        )
    print(
        "Start the appliance, if it isn't running: it is in service at once. Images come when they are wanted, and by and by."
    )
    print("Then print a new recovery key if the paper has been seen: appliance key rotate")
    return 0


def _moment(typed: str | None) -> datetime | None:
    from appliance import local_time

    if typed is None:
        return None
    try:
        return local_time.moment_of(typed)
    except ValueError as error:
        raise Refused(
            "that is no moment", hint="type it as 2026-11-25T18:00:00-05:00, or a day as 2026-11-25"
        ) from error


def _list(archive: Archive, key: RecoveryKey) -> int:
    """Show what there is to choose from."""
    from appliance.backup import choice

    found = choice.look(archive, key)
    rows = [
        {
            "name": each.name,
            "made": f"{each.made_utc:%Y-%m-%d %H:%M} UTC",
            "studies": each.contents.studies,
            "instances": each.contents.instances,
            "software": each.software,
        }
        for each in found.backups
    ]
    as_table(TO_CHOOSE, rows, empty="There is no backup that the recovery key opens.")
    if (fullest := choice.shrunk(found.snapshots)) is not None:
        print(
            f"The newest holds less than half of the studies of {fullest.name}: the box may have been emptied before it was made."
        )
    return 0


def _told(part: str, done: int, total: int) -> None:
    words = {"catalog": "the index", "manifests": "what came after"}[part]
    share = f"{100 * done // total} %" if total else str(done)
    print(f"\r{words}: {share}   ", end="", file=sys.stderr, flush=True)


def _progress(name: str) -> Any:
    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{safe(name)}: {100 * done // max(total, 1)} %", end=end, file=sys.stderr, flush=True)

    return tell


def _keep(box: Box) -> timedelta:
    from appliance import settings

    with box.catalog.reading() as reading:
        return timedelta(days=int(settings.get(reading, "backup.keep_days")))


def _say_which(
    place: DestinationSettings, error: ApplianceError, asked: Sequence[DestinationSettings]
) -> None:
    """Where several archives are asked, which of them failed, and go on; that of one alone is said once, as the error it ends with."""
    if len(asked) > 1:
        print(f"{safe(place.name)}: {error}", file=sys.stderr)


def _chosen(known: list[DestinationSettings], name: str | None) -> list[DestinationSettings]:
    """The archives to work on. Raises `Unknown`, or `OperatorNeeded` if there is none at all."""
    if not known:
        raise OperatorNeeded(
            "there is no archive to lay a backup in",
            hint="add one: 'appliance destination add s3 …', '… add vault …', '… add sftp …' or '… add smb …'",
        )
    chosen = [each for each in known if name in (None, each.name)]
    if not chosen:
        raise Unknown(f"there is no archive {name}", hint=f"one of: {', '.join(each.name for each in known)}")
    return chosen
