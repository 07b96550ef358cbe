"""``appliance destruction``: what was destroyed for good, and the certificates of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import now, opened_box, record
from appliance.config import load_config
from appliance.errors import OperatorNeeded, Refused

if TYPE_CHECKING:
    from appliance.catalog import Reading
    from appliance.catalog.tombstones import Certificate

COLUMNS = {
    "certificate": "CERTIFICATE",
    "begun_utc": "BEGUN",
    "studies": "STUDIES",
    "images": "IMAGES",
    "left_out": "LEFT OUT",
    "waiting": "WAITS FOR",
    "completed_utc": "COMPLETED",
    "found_as": "FOUND AS",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    destruction = verbs.add(
        "destruction",
        "studies that were destroyed for good, and the certificates of it",
        about="Two people decide in the console which studies are destroyed; the box carries it out by itself, here and in "
        "every archive. An archive that is away does its part when it is back, and the certificate says so until then. A box that "
        "was restored carries on what it finds in an archive as destroyed, under a number of its own: FOUND AS is the first one.",
        examples=[
            "appliance destruction list",
            "appliance destruction certificate D-2026-0001 --pdf certificate.pdf",
            "appliance destruction certificate D-2026-0001 --file certificate.json",
            "appliance destruction verify certificate.json",
        ],
    )
    own = Verbs(destruction)
    add_json(own.add("list", "show the certificates, the latest first", act=list_certificates))
    show = own.add("show", "show what one certificate says", act=show_certificate)
    show.add_argument("certificate", metavar="CERTIFICATE", help="its number in the list")
    add_json(show)
    certificate = own.add("certificate", "write one certificate to a file", act=write_certificate)
    certificate.add_argument("certificate", metavar="CERTIFICATE", help="its number in the list")
    certificate.add_argument("--file", type=Path, metavar="F", help="as JSON, signed")
    certificate.add_argument(
        "--pdf",
        type=Path,
        metavar="F",
        help="for people, as PDF, with the signed JSON in it as an attachment",
    )
    certificate.add_argument("--language", default="en", metavar="L", help="of the PDF: en, fr, es, zh")
    verify = own.add(
        "verify",
        "check the signature of a certificate in JSON",
        act=verify_certificate,
        about="It prints the words of the paper that was made of this file: what a paper says otherwise was altered there. The paper's PDF "
        "has the file as an attachment, and its SHA-256 stands on it. The signature decides: line ends that a mail server has changed alter nothing, "
        "and the SHA-256 that is printed is that of the file as it was issued.",
    )
    verify.add_argument(
        "file", type=Path, metavar="FILE", help="the file, as it was saved out of the PDF or taken"
    )
    verify.add_argument("--language", default="en", metavar="L", help="of the words: en, fr, es, zh")


def list_certificates(arguments: Arguments) -> int:
    """Print the certificates."""
    from appliance.catalog import tombstones

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [_row(conn, each) for each in tombstones.certificates(conn, limit=1000)]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="Nothing was destroyed.")
    return 0


def show_certificate(arguments: Arguments) -> int:
    """Print what a certificate says."""
    from appliance.catalog import tombstones
    from appliance.lifecycle import certificate

    with opened_box() as box:
        with box.catalog.reading() as conn:
            found = tombstones.certificate(conn, arguments.certificate)
            told = certificate.document(conn, found, now())
        if arguments.json:
            as_json(told)
        else:
            _print_words(told, certificate.fingerprint(box.root))
    return 0


def write_certificate(arguments: Arguments) -> int:
    """Write a certificate to a file, signed, or as a PDF."""
    from appliance.catalog import tombstones
    from appliance.lifecycle import certificate
    from appliance.web import papers
    from appliance.web.console import web_ui
    from appliance.web.language import Languages

    if arguments.file is None and arguments.pdf is None:
        raise Refused(
            "no file was named", hint="say where to: --file certificate.json, --pdf certificate.pdf"
        )
    with opened_box() as box:
        with box.catalog.transaction() as tx:
            found = tombstones.certificate(tx, arguments.certificate)
            signed = certificate.issue(tx, box.root, found, now())
            record(tx, box, "destruction:certify", found.label, {"sha256": certificate.digest(signed)})
        if arguments.file is not None:
            _write(arguments.file, signed)
        if arguments.pdf is not None:
            languages = Languages(web_ui() / "languages")
            seal = certificate.fingerprint(box.root)
            _write(arguments.pdf, papers.certificate(languages, arguments.language, signed, seal))
    return 0


def verify_certificate(arguments: Arguments) -> int:
    """Check a certificate, and say what it says."""
    from appliance.lifecycle import certificate

    try:
        text = arguments.file.read_bytes()
    except OSError as error:
        raise OperatorNeeded(
            f"{arguments.file} cannot be read ({error.strerror})",
            hint="check its name, and that you may read it",
        ) from error
    if not _has_box():
        found = certificate.checked(text)
        _print_words(found.document, found.fingerprint, arguments.language, found.sha256)
        print(
            "\nThe signature is right: nothing in it was changed since it was signed. There is no box on this computer to say whose it is:"
            f"\ncompare the signing key with that of the box that issued it: {found.fingerprint}"
        )
        return 0
    with opened_box() as box, box.catalog.reading() as conn:
        found = certificate.verify(conn, box.root, text)
    _print_words(found.document, found.fingerprint, arguments.language, found.sha256)
    if not found.ours:
        raise Refused(
            "the signature is right, but of another box",
            hint=f"compare the signing key with that of the box that issued it: {found.fingerprint}",
        )
    print("The signature is right: this box issued it, and nothing in it was changed.")
    return 0


def _has_box() -> bool:
    """Whether this computer has a box: whoever only checks a certificate gets none made, with keys of its own."""
    data = load_config(os.environ).data
    try:
        return (data / "keys").exists() or (data / "catalog.db").exists()
    except PermissionError:
        return True  # whoever may not look into it is told so when it is opened


def _print_words(told: Any, fingerprint: str, language: str = "en", attached: str = "") -> None:
    from appliance.web.certificate_words import worded
    from appliance.web.console import web_ui
    from appliance.web.language import Languages

    words = Languages(web_ui() / "languages").words(language)
    paper = worded(told, fingerprint, words, attached)
    print(f"{paper.clinic}\n{paper.title}\n{paper.made}\n\n{paper.verdict}")
    for section in paper.sections:
        print(f"\n{section.title}")
        for line in section.lines:
            print(f"  {line.label}: {line.text}")


def _row(conn: Reading, found: Certificate) -> dict[str, Any]:
    from appliance.catalog import tombstones
    from appliance.catalog.tombstones import PlaceState
    from appliance.lifecycle import certificate

    studies = tombstones.studies_of(conn, found.id)
    waiting = [
        each.name
        for each in tombstones.places(conn, found.id)
        if each.state in {PlaceState.OWED, PlaceState.LAID}
    ]
    return {
        "certificate": found.label,
        "begun_utc": found.begun_utc.isoformat(timespec="seconds"),
        "studies": len(studies),
        "images": sum(each.instances for each in studies),
        "left_out": len(certificate.left_out(conn, found)),
        "waiting": ", ".join(waiting),
        "completed_utc": found.completed_utc.isoformat(timespec="seconds") if found.completed_utc else "",
        "found_as": found.authority.get("found_as", ""),
    }


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OperatorNeeded(
            f"{path} cannot be written ({error.strerror})", hint="name a file that you may write"
        ) from error
    print(f"{path}: {len(data)} bytes")
