"""Destinations: where images may go. A secret goes in and never comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from appliance.backup import homecoming, other_archives
from appliance.catalog import Reading, destinations
from appliance.configuration import OPTIONS, destination_of
from appliance.errors import OperatorNeeded, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import safeguards, tier_rules
from appliance.model import DestinationKind, DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import access, anew, build, prepare, sftp
from appliance.replication.destinations.protection import State
from appliance.web import forms
from appliance.web.api.operation import operation, unchanged
from appliance.web.api.other_side import of_the_other_side
from appliance.web.api.shape import Row, Shape
from appliance.web.console import console, now

Name = Annotated[
    str,
    Shape("What people call it.", example="cloud", shortest=1, longest=64, pattern=r"^[!-~]([ -~]*[!-~])?$"),
]
Address = Annotated[
    str,
    Shape(
        "Its address or host name.",
        example="192.168.1.20",
        shortest=1,
        longest=253,
        pattern=r"^[0-9A-Za-z.:-]+$",
    ),
]
User = Annotated[
    str, Shape("Who the box is there.", example="clinicbox", shortest=1, longest=64, pattern=r"^[!-~]+$")
]
Hidden = Annotated[
    str, Shape("The secret access key; kept sealed, never shown again.", longest=500, is_secret=True)
]


@dataclass(frozen=True, slots=True)
class Destination:
    """A remote place that instances are delivered to. `secret` says only whether there is one."""

    id: Row
    name: str
    kind: DestinationKind
    takes: Annotated[Literal["ciphertext", "dicom"], Shape("What leaves: sealed objects, or images.")]
    options: Annotated[Mapping[str, str | int | bool], Shape("Where it is, by kind.")]
    secret: Literal["given", "none"]
    state: Literal["on", "paused", "trouble"]
    trouble: Annotated[str, Shape("Why nothing gets there at present.")]
    last_success_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Destinations:
    """All destinations, by name."""

    items: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class NewS3:
    """Cloud storage in Canada: gets sealed objects only."""

    name: Name
    bucket: Annotated[
        str, Shape("The bucket, which must exist.", example="my-clinic", shortest=3, longest=63)
    ]
    region: Annotated[str, Shape("A Canadian region.", example="ca-central-1", shortest=1, longest=64)]
    endpoint_url: Annotated[str, Shape("Another provider's address; empty for Amazon.")] = ""
    canadian: Annotated[bool, Shape("I declare that this provider keeps the objects in Canada.")] = False
    access_key_id: Annotated[str, Shape("The access key's id.", longest=128)] = ""
    secret: Hidden = ""


@dataclass(frozen=True, slots=True)
class NewDicom:
    """Another DICOM system: a PACS, a specialist's workstation."""

    name: Name
    ae_title: Annotated[
        str,
        Shape("Its AE title (PS3.5 6.2).", example="ORTHO", shortest=1, longest=16, pattern=r"^[!-\[\]-~]+$"),
    ]
    address: Address
    port: Annotated[int, Shape("Its DICOM port.", example=104, least=1, most=65535)]


@dataclass(frozen=True, slots=True)
class NewFolder:
    """A folder that another program reads; images in it are in clear."""

    name: Name
    path: Annotated[
        str,
        Shape("An absolute path on this box.", example="/srv/hand-over", shortest=2, pattern=r"^/[!-~]+$"),
    ]


@dataclass(frozen=True, slots=True)
class NewVault:
    """A USB disk or a mounted share that keeps sealed copies."""

    name: Name
    path: Annotated[
        str, Shape("Where it is mounted.", example="/media/usb", shortest=2, pattern=r"^/[!-~]+$")
    ]


@dataclass(frozen=True, slots=True)
class NewSftp:
    """A folder on a NAS or another file server, by SFTP: gets sealed objects only."""

    name: Name
    address: Address
    user: User
    folder: Annotated[
        str, Shape("The folder, which must exist.", example="backup", shortest=1, pattern=r"^[!-~]+$")
    ]
    port: Annotated[int, Shape("Its port.", example=22, least=1, most=65535)] = 22
    login: Annotated[
        Literal["password", "key"],
        Shape("By a password, or by a key that the box makes: `public_key` is then among the options."),
    ] = "password"
    secret: Annotated[str, Shape("The password.", longest=500, is_secret=True)] = ""


@dataclass(frozen=True, slots=True)
class NewSmb:
    """A share of a NAS or of Windows, by SMB 3: gets sealed objects only."""

    name: Name
    address: Address
    share: Annotated[
        str, Shape("The share.", example="backup", shortest=1, longest=80, pattern=r"^[!-.0-\[\]-~]+$")
    ]
    user: User
    secret: Annotated[str, Shape("The password.", shortest=1, longest=500, is_secret=True)]
    folder: Annotated[str, Shape("The folder in it, which must exist; empty for the share itself.")] = ""
    domain: Annotated[str, Shape("The domain of this user, where there is one.", longest=255)] = ""
    port: Annotated[int, Shape("Its port.", example=445, least=1, most=65535)] = 445


@dataclass(frozen=True, slots=True)
class Trust:
    """That the key of a server was compared."""

    fingerprint: Annotated[
        str,
        Shape("As the server shows it itself.", example="SHA256:…", shortest=1, longest=120),
    ]


@dataclass(frozen=True, slots=True)
class DestinationChange:
    """Other options, or another secret. What is left out stays; an option that is null is taken away."""

    options: Annotated[Mapping[str, str | int | bool | None], Shape("By kind.", example={"port": 104})]
    secret: Annotated[str | None, Shape("Another secret.", longest=500, is_secret=True)] = None


@dataclass(frozen=True, slots=True)
class BucketProtection:
    """One of what keeps a bucket's versions from whoever takes over the box."""

    name: Annotated[str, Shape("Which.", example="object lock")]
    state: State
    words: Annotated[str, Shape("What was found.", example="versions are not locked")]


@dataclass(frozen=True, slots=True)
class DestinationTest:
    """What the test found."""

    outcome: Annotated[str, Shape("In words.", example="The folder /srv/hand-over can be written.")]
    tiers: Annotated[
        Literal["well", "missing", "not told"],
        Shape("Whether a bucket has the rules by which images move after the days that are chosen."),
    ]
    rules: Annotated[
        str, Shape("Those that are to be added to its life cycle, as JSON in S3's own words; or empty.")
    ]
    protections: Annotated[
        tuple[BucketProtection, ...],
        Shape("Of a bucket; nothing else has any: whoever takes over the box can erase it."),
    ]


@operation("GET", "/destinations", Permission.VIEW_DESTINATIONS, gives=Destinations)
def list_destinations() -> Destinations:
    """List the destinations."""
    with console().box.catalog.reading() as conn:
        return Destinations(tuple(_shown(conn, each) for each in destinations.destinations(conn)))


@operation(
    "GET", "/destinations/{destination_id}", Permission.VIEW_DESTINATIONS, gives=Destination, is_tagged=True
)
def get_destination(destination_id: int) -> Destination:
    """Get one destination."""
    with console().box.catalog.reading() as conn:
        return _shown(conn, _known(conn, destination_id))


@operation(
    "POST",
    "/destinations/s3",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=NewS3,
    status=201,
    is_careful=True,
)
def add_s3_destination(body: NewS3) -> Destination:
    """Add cloud storage. A rule then says what goes there."""
    options = {key: value for key in OPTIONS["s3"] if (value := getattr(body, key))}
    return _added(destination_of(body.name, "s3", options, body.secret))


@operation(
    "POST",
    "/destinations/dicom",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=NewDicom,
    status=201,
    is_careful=True,
)
def add_dicom_destination(body: NewDicom) -> Destination:
    """Add another DICOM system. A rule then says what goes there."""
    options = {key: getattr(body, key) for key in OPTIONS["dicom"]}
    return _added(destination_of(body.name, "dicom", options))


@operation(
    "POST",
    "/destinations/folder",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=NewFolder,
    status=201,
    is_careful=True,
)
def add_folder_destination(body: NewFolder) -> Destination:
    """Add a folder. A rule then says what goes there."""
    return _added(destination_of(body.name, "folder", {"path": body.path}))


@operation(
    "POST",
    "/destinations/vault",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=NewVault,
    status=201,
    is_careful=True,
)
def add_vault_destination(body: NewVault) -> Destination:
    """Add a USB disk or a share. A rule then says what goes there."""
    return _added(destination_of(body.name, "vault", {"path": body.path}))


@operation(
    "POST",
    "/destinations/sftp",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=NewSftp,
    status=201,
    is_careful=True,
)
def add_sftp_destination(body: NewSftp) -> Destination:
    """Add a file server. Nothing is sent there before its key was compared: see `trust`."""
    options = {key: value for key in OPTIONS["sftp"] if (value := getattr(body, key, ""))}
    return _added(prepare(destination_of(body.name, "sftp", options, body.secret)))


@operation(
    "POST",
    "/destinations/smb",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=NewSmb,
    status=201,
    is_careful=True,
)
def add_smb_destination(body: NewSmb) -> Destination:
    """Add a share. The box signs in there, and keeps what the server calls itself: it waits for the server."""
    options = {key: value for key in OPTIONS["smb"] if (value := getattr(body, key, ""))}
    return _added(_asked(destination_of(body.name, "smb", options, body.secret)))


@operation(
    "PATCH",
    "/destinations/{destination_id}",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=DestinationChange,
    is_tagged=True,
    is_guarded=True,
    is_careful=True,
)
def change_destination(destination_id: int, body: DestinationChange) -> Destination:
    """Change where a destination is, or its secret. Another access key needs its own secret.

    With a password for a share, the box signs in there first, and keeps what the server calls itself from then on.
    """
    with console().box.catalog.reading() as conn:
        asked = _changed(_known(conn, destination_id), body)
    if asked.kind == "smb" and body.secret:
        asked = _asked(anew(asked))
    with console().box.catalog.transaction() as tx:
        before = _known(tx, destination_id)
        unchanged(_shown(tx, before))
        after = asked if asked.kind == "smb" and body.secret else _changed(before, body)
        if body.secret is None and access.is_same(before, after):
            after = replace(after, secret=before.secret)
        if after.kind == "sftp":
            after = prepare(after)
        _check(after)
        recall.let_move(tx, before, after.options)
        destinations.change(tx, before.name, after.options, after.secret)
        shown = {"kind": after.kind, **after.options} | ({} if body.secret is None else {"secret": "given"})
        console().record(tx, "destination:change", after.name, forms.actor(), shown)
        return _shown(tx, replace(after, id=before.id, paused=before.paused))


@operation(
    "DELETE", "/destinations/{destination_id}", Permission.MANAGE_DESTINATIONS, status=204, is_careful=True
)
def remove_destination(destination_id: int) -> None:
    """Remove a destination: what is still owed to it is cancelled, what was delivered there stays there."""
    with console().box.catalog.transaction() as tx:
        found = _known(tx, destination_id)
        homecoming.refuse_if_needed(tx, console().box, found)
        other_archives.refuse_if_needed(tx, found)
        cancelled = destinations.remove(tx, found.name, now())
        console().record(tx, "destination:remove", found.name, forms.actor(), {"cancelled": cancelled})


@operation("POST", "/destinations/{destination_id}/pause", Permission.ACT_ON_DELIVERIES, gives=Destination)
def pause_destination(destination_id: int) -> Destination:
    """Send nothing there for now; what is owed waits."""
    with console().box.catalog.transaction() as tx:
        found = _known(tx, destination_id)
        destinations.pause(tx, found.name)
        console().record(tx, "destination:pause", found.name, forms.actor())
        return _shown(tx, _known(tx, destination_id))


@operation("POST", "/destinations/{destination_id}/resume", Permission.ACT_ON_DELIVERIES, gives=Destination)
def resume_destination(destination_id: int) -> Destination:
    """Send there again, at once."""
    with console().box.catalog.transaction() as tx:
        found = _known(tx, destination_id)
        destinations.resume(tx, found.name)
        console().record(tx, "destination:resume", found.name, forms.actor())
        return _shown(tx, _known(tx, destination_id))


@operation(
    "POST",
    "/destinations/{destination_id}/trust",
    Permission.MANAGE_DESTINATIONS,
    gives=Destination,
    takes=Trust,
    is_careful=True,
)
def trust_server(destination_id: int, body: Trust) -> Destination:
    """Pin the key of a file server, if it is the one whose fingerprint was read there. It waits for the server.

    Where another key was pinned, the password is forgotten and the destination paused: give it again, and resume.
    """
    with console().box.catalog.reading() as conn:
        found = _known(conn, destination_id)
    if found.kind != "sftp":
        raise Refused("this destination has no key to compare", hint="name a file server")
    with of_the_other_side():
        trusted = sftp.trust(found, body.fingerprint)
    with console().box.catalog.transaction() as tx:
        host_key = str(trusted.options["host_key"])
        after = destinations.pin(tx, _known(tx, destination_id).name, host_key)
        console().record(tx, "destination:trust", after.name, forms.actor(), {"host_key": host_key})
        return _shown(tx, after)


@operation(
    "POST",
    "/destinations/{destination_id}/test",
    Permission.ACT_ON_DELIVERIES,
    gives=DestinationTest,
    refuses=(422, 507),
)
def test_destination(destination_id: int) -> DestinationTest:
    """Try the connection now. It waits for the other side, for up to a minute."""
    with console().box.catalog.reading() as conn:
        found = _known(conn, destination_id)
    with console().box.catalog.transaction() as tx:
        console().record(tx, "destination:test", found.name, forms.actor())
    built = build(found, console().box)
    outcome = built.check()
    missing = tier_rules.look(console().box, found, built, now())
    found_there = tuple(
        BucketProtection(each.name, each.state, each.words)
        for each in safeguards.look(console().box, found, built, now())
    )
    return DestinationTest(
        outcome=outcome,
        tiers="well" if missing is None else "missing" if missing.is_told else "not told",
        rules="" if missing is None else missing.rules,
        protections=found_there,
    )


OPERATIONS = (
    list_destinations,
    get_destination,
    add_s3_destination,
    add_dicom_destination,
    add_folder_destination,
    add_vault_destination,
    add_sftp_destination,
    add_smb_destination,
    change_destination,
    remove_destination,
    pause_destination,
    resume_destination,
    test_destination,
    trust_server,
)


def _added(wanted: DestinationSettings) -> Destination:
    _check(wanted)
    with console().box.catalog.transaction() as tx:
        number = destinations.add(tx, wanted)
        shown = {"kind": wanted.kind, **wanted.options}
        console().record(tx, "destination:add", wanted.name, forms.actor(), shown)
        return _shown(tx, replace(wanted, id=number))


def _changed(before: DestinationSettings, body: DestinationChange) -> DestinationSettings:
    options: dict[str, Any] = {**before.options, **body.options}
    options = {key: value for key, value in options.items() if value is not None}
    return destination_of(before.name, before.kind, options, body.secret or "")


def _asked(wanted: DestinationSettings) -> DestinationSettings:
    """As it is to be recorded, once its server was asked."""
    with of_the_other_side():
        return prepare(wanted)


def _check(wanted: DestinationSettings) -> None:
    """Whether it can be right. What an operator would have to mend in what was kept, a caller has sent wrong."""
    try:
        build(wanted, console().box)
    except OperatorNeeded as error:
        raise Refused(error.message, hint=error.hint) from error


def _known(conn: Reading, destination_id: int) -> DestinationSettings:
    for each in destinations.destinations(conn):
        if each.id == destination_id:
            return each
    raise Unknown("there is no such destination", hint="list the destinations to see their numbers")


def _shown(conn: Reading, found: DestinationSettings) -> Destination:
    health = next(each for each in destinations.health(conn) if each.id == found.id)
    trouble = health.breaker.reason
    return Destination(
        id=found.id,
        name=found.name,
        kind=found.kind,
        takes=found.takes,
        options=dict(found.options),
        secret="given" if found.secret else "none",
        state="paused" if health.paused else "trouble" if trouble else "on",
        trouble=trouble,
        last_success_utc=health.last_success_utc,
    )
