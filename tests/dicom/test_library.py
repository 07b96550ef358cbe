"""What we use of pynetdicom without its promise is still there: an upgrade that took it away fails here first."""

from __future__ import annotations

import logging
import threading

import pynetdicom
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import ThreadedAssociationServer

from appliance.dicom.association import LIBRARY_PRIVATE, ReceivingAssociation
from appliance.dicom.listener import ReceivingServer, silence_library

from .conftest import Scp


def test_the_version_is_the_one_this_was_written_against() -> None:
    assert pynetdicom.__version__ == "3.0.4"


def test_private_names_are_there() -> None:
    association = Association(AE(), "acceptor")
    owners = {"association": association, "provider": association.dul, "configuration": _config}
    assert {
        owner: [name for name in names if not hasattr(owners[owner], name)]
        for owner, names in LIBRARY_PRIVATE.items()
    } == {owner: [] for owner in owners}


def test_what_is_overridden_exists() -> None:
    for name in ("run_reactor", "set_socket"):
        assert hasattr(Association, name)
    for name in ("start", "is_alive", "stop_dul", "send_pdu", "receive_pdu"):
        assert hasattr(DULServiceProvider, name)
    for name in ("server_bind", "server_activate", "get_request", "verify_request", "process_request_thread"):
        assert hasattr(ThreadedAssociationServer, name)
        assert name in vars(ReceivingServer)


def test_no_thread_of_the_library_is_started(scp: Scp) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    with scp.peer() as peer:
        peer.associate()
        started = [thread for thread in threading.enumerate() if thread.ident not in before]
        assert len(started) == 1
        assert not isinstance(started[0], (ReceivingAssociation, DULServiceProvider))


def test_the_library_logs_nothing() -> None:
    silence_library()
    assert not logging.getLogger("pynetdicom.acse").isEnabledFor(logging.CRITICAL)
    assert not logging.getLogger("pydicom").isEnabledFor(logging.CRITICAL)
