"""Waitress around the application: many threads, because a stream holds one; a stop that waits for nobody's stream."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from waitress.server import create_server

from appliance.box import Box
from appliance.catalog import processes
from appliance.config import WebConfig
from appliance.errors import ApplianceError, OperatorNeeded
from appliance.web.application import create_app
from appliance.web.console import Console

BEAT_SECONDS = 5.0

log = logging.getLogger(__name__)


def serve(box: Box, stop: threading.Event) -> None:
    """Show the console of `box` until `stop` is set.

    Raises `OperatorNeeded` when the address is taken or the console is not built.
    """
    app = create_app(box)
    console = cast(Console, app.extensions["console"])
    config = box.config.web
    server = create_server(
        app,
        sockets=[_listening(config)],
        threads=config.threads,
        channel_request_lookahead=5,  # without it a closed stream is never noticed
        ident=None,
        max_request_body_size=1 << 20,
        connection_limit=500,
        channel_timeout=60,
        # TLS is terminated on this machine: only what comes from there may say who the browser is.
        trusted_proxy="127.0.0.1",
        trusted_proxy_count=1,
        trusted_proxy_headers={"x-forwarded-for", "x-forwarded-proto"},
        clear_untrusted_proxy_headers=True,
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a busy moment is no warning
    threading.Thread(target=console.darkroom.warm, name="warm", daemon=True).start()
    beats = threading.Thread(target=_beat, args=(box, stop), name="beat", daemon=True)
    beats.start()
    listening = threading.Thread(target=_listen, args=(server.run, stop), name="listen", daemon=True)
    listening.start()
    log.info("the console is at http://%s:%d", config.bind, config.port)
    stop.wait()
    console.watcher.close()
    server.close()
    listening.join(5)
    beats.join(BEAT_SECONDS)
    console.darkroom.close()


def _listen(run: Callable[[], None], stop: threading.Event) -> None:
    """Answer until the sockets are closed, which may happen while they are being waited for."""
    try:
        run()
    except OSError:
        if not stop.is_set():
            raise


def _listening(config: WebConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.bind else socket.AF_INET
    try:
        return socket.create_server((config.bind, config.port), family=family, backlog=1024)
    except OSError as error:
        raise OperatorNeeded(
            f"the console cannot listen on {config.bind}:{config.port} ({error.strerror})",
            hint="stop what uses that port, or set APPLIANCE_WEB_PORT",
        ) from error


def _beat(box: Box, stop: threading.Event) -> None:
    """Show signs of life in the catalog."""
    started = datetime.now(UTC)
    while True:
        try:
            with box.catalog.transaction() as tx:
                processes.beat(tx, "web", os.getpid(), started, datetime.now(UTC))
        except ApplianceError as error:
            log.warning("no sign of life could be recorded: %s", error)
        if stop.wait(BEAT_SECONDS):
            return
