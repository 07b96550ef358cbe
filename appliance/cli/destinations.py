"""``appliance destination``: the remote places that instances are delivered to.

A secret access key is read from standard input or from a file, never from an argument: arguments are seen by every
account of the machine and stay in the shell's history.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from appliance.cli.arguments import Arguments, Verbs, add_json, is_text, port
from appliance.cli.listing import as_json, as_table, safe
from appliance.cli.servers import add_server, add_share, server_options, share_options
from appliance.cli.session import now, opened_box, read_secret, record
from appliance.errors import Refused, Unknown
from appliance.model import DestinationKind, DestinationSettings, Takes, ae_title

if TYPE_CHECKING:
    from appliance.catalog import Reading
    from appliance.lifecycle.tier_rules import Missing

COLUMNS = {"name": "NAME", "kind": "KIND", "takes": "TAKES", "options": "WHERE", "state": "STATE"}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    destination = verbs.add(
        "destination",
        "the places that images are delivered to",
        about="Cloud storage (s3), a disk (vault), a file server (sftp) and a share (smb) get sealed objects only; another DICOM "
        "system (dicom) and a folder get images.",
        examples=[
            "appliance destination add s3 cloud --bucket my-clinic --region ca-central-1 --access-key-id AK… <key.txt",
            "appliance destination add dicom orthodontist --ae-title ORTHO --address 192.168.1.60 --port 104",
            "appliance destination test cloud",
        ],
    )
    own = Verbs(destination)
    add_json(own.add("list", "show the destinations", act=list_destinations))
    kinds = Verbs(own.add("add", "add a destination; a rule then says what goes there"))
    _add_s3(kinds)
    _add_dicom(kinds)
    _add_folder(kinds)
    _add_vault(kinds)
    _add_sftp(kinds)
    _add_smb(kinds)
    for name, summary, act in (
        ("test", "try the connection now, and say what is wrong", try_destination),
        ("pause", "deliver nothing there for now; what is owed waits", pause_destination),
        ("resume", "deliver there again", resume_destination),
        ("remove", "stop delivering there; what is owed to it is cancelled", remove_destination),
    ):
        own.add(name, summary, act=act).add_argument("name", metavar="NAME", help="the destination's name")
    policy = own.add(
        "policy",
        "print what the key of a bucket should be allowed, and how the bucket should be set",
        act=print_policy,
        about="One JSON document for whoever looks after the cloud account: the policy of the access key, with which nothing "
        "can be removed, and the bucket's versioning, object lock and life cycle, which keep for 35 days what is overwritten. "
        "'destination test' says which of it is missing.",
        examples=["appliance destination policy cloud >policy.json"],
    )
    policy.add_argument("name", metavar="NAME", help="the destination's name")
    trust = own.add(
        "trust",
        "pin the key of a file server, once you have compared its fingerprint",
        act=trust_server,
        about="Read the fingerprint on the file server itself, not from this box: that is what makes it worth something. "
        "Nothing is sent to a server whose key was not compared, or has changed since.",
        examples=["appliance destination trust nas --fingerprint SHA256:Vu0jR…"],
    )
    trust.add_argument("name", metavar="NAME", help="the destination's name")
    trust.add_argument(
        "--fingerprint", required=True, metavar="F", help="as the server shows it itself, such as SHA256:…"
    )
    secret = own.add(
        "secret",
        "give a destination another secret access key, password or key",
        act=give_secret,
        about="Read from standard input, or from --secret-file. Where the box comes in by a key, it makes a new one and "
        "prints what is to be copied to the server. A destination that waited for it is resumed.",
    )
    secret.add_argument("name", metavar="NAME", help="the destination's name")
    secret.add_argument(
        "--secret-file", type=Path, metavar="F", help="a file with the secret, readable by you only"
    )


def _add_s3(kinds: Verbs) -> None:
    s3 = kinds.add(
        "s3",
        "cloud storage in Canada: gets sealed objects that only this clinic's keys open",
        act=add_s3,
        about="The region must be Canadian (ca-central-1, ca-west-1). Another provider's address needs --canadian, "
        "with which you declare that it keeps the objects in Canada. The secret access key is read from "
        "standard input, or from --secret-file.",
        examples=[
            "appliance destination add s3 cloud --bucket my-clinic --region ca-central-1 --access-key-id AK… <key.txt",
            "appliance destination add s3 cloud --bucket my-clinic --region montreal --canadian \\",
            "    --endpoint-url https://s3.example.ca --access-key-id AK… --secret-file key.txt",
        ],
    )
    s3.add_argument("name", metavar="NAME", help="what to call it")
    s3.add_argument("--bucket", required=True, metavar="B", help="the bucket, which must exist")
    s3.add_argument("--region", required=True, metavar="R", help="the region, such as ca-central-1")
    s3.add_argument(
        "--endpoint-url", metavar="U", help="another provider's address, such as https://s3.example.ca"
    )
    s3.add_argument(
        "--canadian", action="store_true", help="I declare that this address keeps objects in Canada"
    )
    s3.add_argument("--access-key-id", metavar="K", help="the access key's id; its secret is then read")
    s3.add_argument(
        "--secret-file",
        type=Path,
        metavar="F",
        help="a file with the secret access key, readable by you only",
    )


def _add_dicom(kinds: Verbs) -> None:
    dicom = kinds.add(
        "dicom",
        "another DICOM system: a PACS, a specialist's workstation",
        act=add_dicom,
        examples=["appliance destination add dicom ortho --ae-title ORTHO --address 192.168.1.60 --port 104"],
    )
    dicom.add_argument("name", metavar="NAME", help="what to call it")
    dicom.add_argument("--ae-title", required=True, metavar="X", help="its AE title")
    dicom.add_argument("--address", required=True, metavar="A", help="its address or host name")
    dicom.add_argument(
        "--port", required=True, type=port, metavar="P", help="its DICOM port, often 104 or 11112"
    )


def _add_folder(kinds: Verbs) -> None:
    folder = kinds.add(
        "folder",
        "a folder that another program reads; images in it are in clear",
        act=add_folder,
        examples=["appliance destination add folder hand-over --path /srv/hand-over"],
    )
    folder.add_argument("name", metavar="NAME", help="what to call it")
    folder.add_argument("--path", required=True, type=Path, metavar="P", help="the folder, which must exist")


def _add_vault(kinds: Verbs) -> None:
    vault = kinds.add(
        "vault",
        "a USB disk or a share: gets sealed objects that only this clinic's keys open",
        act=add_vault,
        about="Mount the disk or the share first. It is marked, so that the box knows when another disk, or none, is "
        "in its place. With the recovery key, a blank box can be rebuilt from it.",
        examples=["appliance destination add vault usb --path /media/backup"],
    )
    vault.add_argument("name", metavar="NAME", help="what to call it")
    vault.add_argument("--path", required=True, type=Path, metavar="P", help="where it is mounted")


def _add_sftp(kinds: Verbs) -> None:
    sftp = kinds.add(
        "sftp",
        "a NAS or another file server, by SFTP: gets sealed objects that only this clinic's keys open",
        act=add_sftp,
        about="The password is read from standard input, or from --secret-file; with --with-key the box makes a key instead, "
        "and prints what is to be copied to the server. Without --fingerprint, the server's key is shown for you to compare, "
        "and nothing is sent until 'appliance destination trust'.",
        examples=[
            "appliance destination add sftp nas --address 192.168.1.20 --user clinicbox --folder backup <password.txt",
            "appliance destination add sftp nas --address 192.168.1.20 --user clinicbox --folder backup --with-key",
        ],
    )
    sftp.add_argument("name", metavar="NAME", help="what to call it")
    add_server(sftp)
    sftp.add_argument(
        "--with-key", action="store_true", help="come in by a key that this box makes, not by a password"
    )


def _add_smb(kinds: Verbs) -> None:
    smb = kinds.add(
        "smb",
        "a share of a NAS or of Windows, by SMB 3: gets sealed objects that only this clinic's keys open",
        act=add_smb,
        about="The password is read from standard input, or from --secret-file. The box signs in, encrypted or signed and never "
        "as a guest, and keeps what the server calls itself: another one gets nothing. SMB has no key that you could "
        "compare, as SFTP has; make the password long, and the account for this box alone.",
        examples=[
            "appliance destination add smb share --address 192.168.1.20 --share backup --folder clinic --user clinicbox \\",
            "    <password.txt",
        ],
    )
    smb.add_argument("name", metavar="NAME", help="what to call it")
    add_share(smb)


def list_destinations(arguments: Arguments) -> int:
    """Print the destinations; secrets are not among the columns."""
    from appliance.catalog import destinations

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [
            {
                "name": each.name,
                "kind": each.kind,
                "takes": each.takes,
                "options": dict(each.options),
                "paused": each.paused,
            }
            for each in destinations.destinations(conn)
        ]
    if arguments.json:
        as_json(rows)
    else:
        shown = [row | {"state": "paused" if row["paused"] else "on"} for row in rows]
        as_table(COLUMNS, shown, empty="There is no destination yet: see 'appliance destination add --help'.")
    return 0


def add_s3(arguments: Arguments) -> int:
    """Add cloud storage."""
    options: dict[str, str | int | bool] = {"bucket": arguments.bucket, "region": arguments.region}
    if arguments.endpoint_url:
        options["endpoint_url"] = arguments.endpoint_url
    if arguments.canadian:
        options["canadian"] = True
    secret = ""
    if arguments.access_key_id:
        options["access_key_id"] = arguments.access_key_id
        secret = read_secret("Secret access key", file=arguments.secret_file)
    elif arguments.secret_file:
        raise Refused("--secret-file is of no use without --access-key-id", hint="give both, or neither")
    return _add(arguments, "s3", "ciphertext", options, secret)


def add_dicom(arguments: Arguments) -> int:
    """Add a DICOM peer."""
    options: dict[str, str | int | bool] = {
        "ae_title": ae_title(arguments.ae_title),
        "address": arguments.address.strip(),
        "port": arguments.port,
    }
    return _add(arguments, "dicom", "dicom", options)


def add_folder(arguments: Arguments) -> int:
    """Add a folder."""
    return _add(arguments, "folder", "dicom", {"path": _folder(arguments.path)})


def add_vault(arguments: Arguments) -> int:
    """Add a disk or a share."""
    return _add(arguments, "vault", "ciphertext", {"path": _folder(arguments.path)})


def add_sftp(arguments: Arguments) -> int:
    """Add a file server; its key is pinned at once where its fingerprint was given."""
    from appliance.replication.destinations import prepare, sftp

    if arguments.with_key and arguments.secret_file:
        raise Refused("--secret-file is of no use with --with-key", hint="give one of the two")
    options = server_options(arguments, "key" if arguments.with_key else "password")
    secret = "" if arguments.with_key else read_secret("Password", file=arguments.secret_file)
    wanted = DestinationSettings(arguments.name.strip(), "sftp", "ciphertext", options, secret=secret)
    wanted = prepare(wanted)
    shown = sftp.SftpServer.from_settings(wanted).shown_key()
    if arguments.fingerprint:
        wanted = sftp.trust(wanted, arguments.fingerprint)
    _add(arguments, "sftp", "ciphertext", dict(wanted.options), wanted.secret)
    _tell_public_key(wanted)
    if not arguments.fingerprint:
        print(f"The server shows the key {shown}.")
        print(
            f"Compare it with what the server shows itself, then: appliance destination trust {safe(wanted.name)} --fingerprint …"
        )
    return 0


def add_smb(arguments: Arguments) -> int:
    """Add a share; what its server calls itself is kept."""
    secret = read_secret("Password", file=arguments.secret_file)
    return _add(arguments, "smb", "ciphertext", share_options(arguments), secret)


def trust_server(arguments: Arguments) -> int:
    """Pin the key of a server whose fingerprint a person has compared."""
    from appliance.catalog import destinations
    from appliance.replication.destinations import sftp

    with opened_box() as box:
        with box.catalog.reading() as conn:
            settings = _known(conn, arguments.name)
        if settings.kind != "sftp":
            raise Refused(
                f"{safe(settings.name)} has no key that could be compared", hint="name a file server (sftp)"
            )
        trusted = sftp.trust(settings, arguments.fingerprint)
        with box.catalog.transaction() as tx:
            host_key = str(trusted.options["host_key"])
            after = destinations.pin(tx, settings.name, host_key)
            record(tx, box, "destination:trust", settings.name, {"host_key": host_key})
    print(f"The key of {safe(settings.name)} is known from now on: {host_key}")
    if not after.secret:
        print(
            f"Its password was for the key before, and is forgotten: appliance destination secret {safe(settings.name)}"
        )
    return 0


def _tell_public_key(settings: DestinationSettings) -> None:
    if public := settings.options.get("public_key"):
        print("Copy this line to the server, among the keys that may come in as this user:")
        print(public)


def _folder(path: Path) -> str:
    text = str(path.expanduser().absolute())
    if not is_text(text):
        raise Refused("the name of the folder is not text in UTF-8", hint="give the folder another name")
    return text


def _add(
    arguments: Arguments,
    kind: DestinationKind,
    takes: Takes,
    options: dict[str, str | int | bool],
    secret: str = "",
) -> int:
    from appliance.catalog import destinations
    from appliance.replication.destinations import build, prepare

    name = arguments.name.strip()
    if not name or not name.isprintable() or len(name) > 64:
        raise Refused("that is not a name for a destination", hint="use up to 64 letters, digits or dashes")
    settings = DestinationSettings(name=name, kind=kind, takes=takes, options=options, secret=secret)
    with opened_box() as box:
        build(settings, box)
        settings = prepare(settings)
        with box.catalog.transaction() as tx:
            destinations.add(tx, settings)
            record(tx, box, "destination:add", name, {"kind": kind, **settings.options})
    print(
        f"{safe(name)} is added; 'appliance destination test {safe(name)}' tries it, 'appliance rule add' uses it."
    )
    return 0


def try_destination(arguments: Arguments) -> int:
    """Test the connection."""
    from appliance.lifecycle import safeguards, tier_rules
    from appliance.replication.destinations import build
    from appliance.replication.destinations.protection import State

    with opened_box() as box:
        with box.catalog.reading() as conn:
            settings = _known(conn, arguments.name)
        built = build(settings, box)
        words = built.check()
        found = safeguards.look(box, settings, built, now())
        missing = tier_rules.look(box, settings, built, now())
        with box.catalog.transaction() as tx:
            record(tx, box, "destination:test", settings.name)
    print(words)
    for each in found:
        print(f"  {each.name + ':':13}{each.state}; {each.words}")
    if any(each.state != State.ON for each in found):
        print(f"See 'appliance destination policy {safe(settings.name)}' for how the bucket should be set.")
    if missing is not None:
        _tell_missing(missing)
    return 0


def _tell_missing(missing: Missing) -> None:
    """What the days that the clinic has chosen for its images lack in the bucket."""
    tiers = ", ".join(missing.tiers)
    if missing.is_told:
        print(
            f"Days are chosen after which images go to {tiers}, and no rule of the bucket moves them there."
        )
        print("Add these rules to its life cycle, beside those that it has:")
    else:
        print(
            f"Days are chosen after which images go to {tiers}. Whether the bucket moves them can't be checked:"
        )
        print("its key may not read the life cycle (s3:GetLifecycleConfiguration), or the store has none.")
        print("Compare it with these rules:")
    print(missing.rules)


def print_policy(arguments: Arguments) -> int:
    """Print what the key may do and how the bucket is to be set; nothing is changed anywhere."""
    from appliance.lifecycle import storage
    from appliance.replication.destinations import bucket_policy

    with opened_box() as box, box.catalog.reading() as conn:
        settings, ages = _known(conn, arguments.name), storage.ages(conn)
    if settings.kind != "s3":
        raise Refused(
            f"{safe(settings.name)} is not cloud storage, so it has no policy",
            hint="name a bucket's destination",
        )
    document = {
        "key_policy": bucket_policy.key_policy(str(settings.options["bucket"])),
        "bucket_settings": bucket_policy.bucket_settings(ages.tiers),
    }
    print(json.dumps(document, indent=2))
    return 0


def pause_destination(arguments: Arguments) -> int:
    """Pause deliveries to it."""
    _change(arguments.name, "pause")
    print(
        f"Nothing leaves for {safe(arguments.name)} now; what is owed waits for 'appliance destination resume'."
    )
    return 0


def resume_destination(arguments: Arguments) -> int:
    """Resume deliveries to it."""
    _change(arguments.name, "resume")
    print(f"Deliveries to {safe(arguments.name)} go on.")
    return 0


def remove_destination(arguments: Arguments) -> int:
    """Remove it; what was delivered to it stays there."""
    _change(arguments.name, "remove")
    print(f"{safe(arguments.name)} is gone; what was delivered there stays there.")
    return 0


def give_secret(arguments: Arguments) -> int:
    """Replace the secret of one destination."""
    from appliance.catalog import destinations
    from appliance.replication.destinations import access, anew, build, prepare

    with opened_box() as box:
        with box.catalog.reading() as conn:
            settings = _known(conn, arguments.name)
        if not access.needs_secret(settings):
            raise Refused(
                "this destination has no access key, so it has no secret", hint="add it again with one"
            )
        if settings.options.get("login") == "key":
            settings = prepare(replace(settings, secret=""))
        else:
            words = "Secret access key" if settings.kind == "s3" else "Password"
            secret = read_secret(words, file=arguments.secret_file)
            settings = prepare(anew(replace(settings, secret=secret)))
        build(settings, box)
        with box.catalog.transaction() as tx:
            destinations.change(tx, settings.name, settings.options, settings.secret)
            destinations.resume(tx, settings.name)
            record(tx, box, "destination:change", settings.name, {"secret": "given"})
    print(
        f"{safe(settings.name)} has another secret; 'appliance destination test {safe(settings.name)}' tries it."
    )
    _tell_public_key(settings)
    return 0


def _change(name: str, what: Literal["pause", "resume", "remove"]) -> None:
    from appliance.backup import homecoming, other_archives
    from appliance.catalog import destinations

    hour = now()
    with opened_box() as box, box.catalog.transaction() as tx:
        place = _known(tx, name)
        match what:
            case "pause":
                destinations.pause(tx, name)
            case "resume":
                destinations.resume(tx, name)
            case _:
                homecoming.refuse_if_needed(tx, box, place)
                other_archives.refuse_if_needed(tx, place)
                destinations.remove(tx, name, hour)
        record(tx, box, f"destination:{what}", name)


def _known(conn: Reading, name: str) -> DestinationSettings:
    from appliance.catalog import destinations

    found = destinations.destination(conn, name)
    if found is None:
        raise Unknown(f"there is no destination '{safe(name)}'", hint="see 'appliance destination list'")
    return found
