"""Accepting connections, on a socket that several processes listen on.

Chose the library's own server behind its public ``AE.make_server``, with an adopted socket: whoever is awake accepts,
and a process that dies takes nothing with it that the others need. Rejected a socket for each process
(``SO_REUSEPORT``): the kernel goes on handing connections to the queue of one that hangs.
"""

from __future__ import annotations

import logging
import socket
import threading
import traceback
import warnings
from socketserver import BaseServer
from typing import Any, Final

from pynetdicom import _config
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import build_context
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from appliance.dicom.association import Desk, ReceivingAssociation
from appliance.dicom.negotiation import VERIFICATION

log = logging.getLogger(__name__)

_CONNECTIONS_PER_ASSOCIATION: Final = 4
_GIVE_WAY_SECONDS: Final = 0.003


class _Connection(RequestHandler):
    """One transport connection: an association, served in the thread that the server gave it."""

    server: ReceivingServer

    def handle(self) -> None:
        association = ReceivingAssociation(self.ae, self.server.desk, self.request, self.client_address[0])
        association.run_reactor()


class ReceivingServer(ThreadedAssociationServer):
    """Accepts on a socket that others may listen on too, and serves each connection in a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any, desk: Desk, listening: socket.socket, **kwargs: Any) -> None:
        self.desk = desk
        self._listening = listening
        self._limit = desk.config.max_associations * _CONNECTIONS_PER_ASSOCIATION
        self._connections = 0
        self._counting = threading.Lock()
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        """Adopt the socket that is bound already."""
        assert self.socket is not None
        self.socket.close()
        self._listening.setblocking(False)  # another process may be faster
        self.socket = self._listening
        self.server_address = self._listening.getsockname()

    def server_activate(self) -> None:
        """It listens already."""

    def get_request(self) -> tuple[socket.socket, Any]:
        if self.desk.give_way():
            threading.Event().wait(_GIVE_WAY_SECONDS)
        return super().get_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's
        """Callers who connect and never say who they are must not take all threads (half-open connections)."""
        with self._counting:
            if self._connections >= self._limit:
                return False
            self._connections += 1
            self.desk.report_connections(self._connections)
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there are no more threads: the connection is not served, and must not count
            self._gone()
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's
        log.error("a connection could not be served: too many threads")

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception as error:  # noqa: BLE001 - the thread ends here; its association was aborted
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("an association ended in %s\n%s", type(error).__name__, where)
        finally:
            self.shutdown_request(request)
            self._gone()

    def _gone(self) -> None:
        with self._counting:
            self._connections -= 1
            self.desk.report_connections(self._connections)

    def shutdown_accepting(self) -> None:
        """Make ``serve_forever`` return, from another thread; associations that are open go on."""
        BaseServer.shutdown(self)

    def server_close(self) -> None:
        """Close our end only: shutting the socket down would stop the other processes too."""
        self._listening.close()


def make_server(desk: Desk, listening: socket.socket) -> ReceivingServer:
    """A server for `desk` on `listening`, a bound and listening socket; run it with ``serve_forever``."""
    silence_library()
    entity = ApplicationEntity(desk.ae_title)
    server = entity.make_server(
        listening.getsockname(),
        contexts=[build_context(VERIFICATION)],
        server_class=ReceivingServer,
        request_handler=_Connection,
        desk=desk,
        listening=listening,
    )
    assert isinstance(server, ReceivingServer)
    return server


def silence_library() -> None:
    """Keep the libraries out of the logs: they write identifiers of patients and studies there."""
    _config.LOG_HANDLER_LEVEL = "none"
    warnings.filterwarnings("ignore", module=r"pydicom|pynetdicom")  # these quote the value they complain of
    for name in ("pynetdicom", "pydicom"):
        library = logging.getLogger(name)
        library.setLevel(logging.CRITICAL + 1)
        library.propagate = False
