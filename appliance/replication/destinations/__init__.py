"""The remote places that objects are delivered to: one file each, one interface (`parcel`), one contract suite.

To add a kind: a file with its class, a line in `build`, a fixture in ``tests/replication/contract.py``.
"""

from __future__ import annotations

from appliance.model import DestinationSettings
from appliance.replication.destinations.dicom import DicomDestination
from appliance.replication.destinations.folder import FolderDestination
from appliance.replication.destinations.parcel import Destination, Parcel, Receipt, Sender, Session
from appliance.replication.destinations.s3 import S3Destination

__all__ = ["Destination", "Parcel", "Receipt", "Sender", "Session", "build"]


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
            return S3Destination.from_settings(settings)
