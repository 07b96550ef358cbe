"""The remote places that objects are delivered to: one file each, one interface (`parcel`), one contract suite.

To add a kind: a file with its class, a line in `build`, a fixture in ``tests/replication/contract.py``.

The places that somebody else's library speaks to (`s3`, `sftp`, `smb`) are imported when one is built: that takes a process half a second of a
processor, and most boxes have one kind at most.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.model import DestinationSettings
from appliance.replication.destinations.archive import Archive, Document
from appliance.replication.destinations.dicom import DicomDestination
from appliance.replication.destinations.folder import FolderDestination
from appliance.replication.destinations.parcel import Destination, Parcel, Receipt, Sender, Session
from appliance.replication.destinations.share import ShareDestination
from appliance.replication.destinations.vault import VaultDestination

__all__ = [
    "Archive",
    "Destination",
    "Document",
    "Parcel",
    "Receipt",
    "Sender",
    "Session",
    "anew",
    "build",
    "prepare",
]


def build(settings: DestinationSettings, sender: Sender) -> Destination:
    """The destination that `settings` describe; nothing is connected yet.

    Raises `Refused` or `OperatorNeeded` when the settings cannot be right, such as a region outside Canada.
    """
    match settings.kind:
        case "folder":
            return FolderDestination.from_settings(settings)
        case "dicom":
            return DicomDestination.from_settings(settings, calling=sender.config.ae_title)
        case "s3":
            from appliance.replication.destinations.s3 import S3Destination

            return S3Destination.from_settings(settings)
        case "vault":
            return VaultDestination.from_settings(settings)
        case "sftp":
            from appliance.replication.destinations.sftp import SftpServer

            return ShareDestination(SftpServer.from_settings(settings))
        case "smb":
            from appliance.replication.destinations.smb import SmbServer

            return ShareDestination(SmbServer.from_settings(settings))


def anew(settings: DestinationSettings) -> DestinationSettings:
    """`settings` with another secret, as if nobody had answered there yet where that is remembered: then `prepare`. Pure."""
    if settings.kind != "smb":
        return settings
    from appliance.replication.destinations import smb

    return smb.anew(settings)


def prepare(settings: DestinationSettings) -> DestinationSettings:
    """`settings` as they are to be recorded, after what has to be done once at the place itself.

    Raises as `build`, and `Transient` when the place cannot be reached.
    """
    match settings.kind:
        case "vault":
            mark = VaultDestination.prepare(VaultDestination.from_settings(settings).path)
            return replace(settings, options={**settings.options, "mark": mark})
        case "sftp":
            from appliance.replication.destinations import sftp

            return sftp.prepare(settings)
        case "smb":
            from appliance.replication.destinations import smb

            return smb.prepare(settings)
        case _:
            return settings
