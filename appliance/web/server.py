"""Waitress around the application: many threads, because a stream holds one; a stop that waits for nobody's stream."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

from flask import Flask
from waitress.server import create_server

from appliance import supervision
from appliance.box import Box
from appliance.catalog import processes
from appliance.config import WebConfig
from appliance.errors import ApplianceError, OperatorNeeded
from appliance.latency import LATENCY
from appliance.web.application import create_app
from appliance.web.console import Console
from appliance.web.places import InPlaces, Places

BEAT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""Within which the console has answered itself, or gives no sign of life: twice in a row, and the box says that it doesn't run."""
WAIT_SECONDS = 0.5
LINGER_SECONDS = 2.0
"""For what the last page is made of: its style and its script come by requests of their own."""
DRAIN_SECONDS = 5.0
MOST_REQUEST_BYTES = 1 << 20

log = logging.getLogger(__name__)

_SWITCH_SECONDS: Final = 0.0005
"""Between two threads that want the interpreter: whoever writes in the catalog for all must not wait long for it."""


def serve(box: Box, stop: threading.Event) -> None:
    """Show the console of `box` until `stop` is set.

    Raises `OperatorNeeded` when the address is taken or the console is not built.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    app = create_app(box)
    console = cast(Console, app.extensions["console"])
    config = box.config.web
    server = create_server(
        InPlaces(app, Places()),
        sockets=[_listening(config)],
        threads=config.threads,
        channel_request_lookahead=5,  # without it a closed stream is never noticed
        ident=None,
        max_request_body_size=MOST_REQUEST_BYTES,
        # Beyond these sizes waitress moves bodies into temporary files: pictures of patients, in clear, on the disk.
        inbuf_overflow=2 * MOST_REQUEST_BYTES,
        outbuf_overflow=sys.maxsize,
        connection_limit=500,
        channel_timeout=60,
        asyncore_use_poll=True,  # select fails on a socket that closes meanwhile, as at every stop
        # TLS is terminated on this machine: only what comes from there may say who the browser is.
        trusted_proxy="127.0.0.1",
        trusted_proxy_count=1,
        trusted_proxy_headers={"x-forwarded-for", "x-forwarded-proto"},
        clear_untrusted_proxy_headers=True,
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a busy moment is no warning
    threading.Thread(target=console.darkroom.warm, name="warm", daemon=True).start()
    port = server.effective_port
    beats = threading.Thread(target=_beat, args=(box, console, port, stop), name="beat", daemon=True)
    beats.start()
    listening = threading.Thread(target=_listen, args=(server, stop), name="listen", daemon=True)
    listening.start()
    log.info("the console is at http://%s:%d", config.bind, config.port)
    stop.wait()
    supervision.stopping("what is being answered may finish")
    console.watcher.close()
    _end(server, listening)
    beats.join(BEAT_SECONDS)
    console.darkroom.close()


def serve_alone(app: Flask, config: WebConfig, over: threading.Event, stop: threading.Event) -> None:
    """Show an application that needs no box, in the place of the console, until one of the two events. Raises as `serve`."""
    server = create_server(
        app,
        sockets=[_listening(config)],
        threads=4,
        ident=None,
        max_request_body_size=MOST_REQUEST_BYTES,
        connection_limit=100,
        channel_timeout=60,
        asyncore_use_poll=True,
        trusted_proxy="127.0.0.1",
        trusted_proxy_count=1,
        trusted_proxy_headers={"x-forwarded-for", "x-forwarded-proto"},
        clear_untrusted_proxy_headers=True,
    )
    ended = threading.Event()
    listening = threading.Thread(target=_listen, args=(server, ended), name="listen", daemon=True)
    listening.start()
    while not over.wait(WAIT_SECONDS) and not stop.is_set():
        pass
    stop.wait(LINGER_SECONDS)
    ended.set()
    _end(server, listening)


def _listen(server: Any, stop: threading.Event) -> None:
    """Serve until `stop`, then until what is being answered is answered, for `DRAIN_SECONDS` at most."""
    step = partial(server.asyncore.loop, map=server._map, use_poll=True, count=1)
    supervision.ready(f"the console is on port {server.effective_port}")
    told = 0.0
    while not stop.is_set():
        step(timeout=1.0)
        if time.monotonic() - told > BEAT_SECONDS:
            supervision.alive()
            told = time.monotonic()
    server.accepting = False
    deadline = time.monotonic() + DRAIN_SECONDS
    while _is_busy(server) and time.monotonic() < deadline:
        step(timeout=0.05)


def _is_busy(server: Any) -> bool:
    threads = server.task_dispatcher
    return bool(
        threads.queue
        or threads.active_count
        or any(each.total_outbufs_len for each in list(server.active_channels.values()))
    )


def _end(server: Any, listening: threading.Thread) -> None:
    """Close the connections once no thread uses them any more.

    Waitress closes the pipe by which its threads wake its loop while they still may: a thread that is late writes a byte
    to whatever file has got that number since, and in this process that may be the catalog. So the loop ends first, then
    the threads, then the connections; if a thread hangs, they stay open for the moment that this process still lives.
    """
    server.pull_trigger()
    listening.join(DRAIN_SECONDS + 2)
    server.task_dispatcher.shutdown(timeout=DRAIN_SECONDS)
    if listening.is_alive() or server.task_dispatcher.threads:
        log.warning("a request did not come to an end in time")
        return
    server.asyncore.close_all(server._map, ignore_all=True)


def _listening(config: WebConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.bind else socket.AF_INET
    try:
        return socket.create_server((config.bind, config.port), family=family, backlog=1024)
    except OSError as error:
        raise OperatorNeeded(
            f"the console cannot listen on {config.bind}:{config.port} ({error.strerror})",
            hint="stop what uses that port, or set APPLIANCE_WEB_PORT",
        ) from error


def _answers(bind: str, port: int) -> bool:
    """Whether somebody who asks gets an answer, whichever it is."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)
    asked = http.client.HTTPConnection(here, port, timeout=ANSWER_SECONDS)
    try:
        asked.request("GET", "/health/live")
        asked.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()
    return True


def _beat(box: Box, console: Console, port: int, stop: threading.Event) -> None:
    """Show signs of life in the catalog, for as long as the console answers: a thread that beats proves nothing of the others."""
    started = datetime.now(UTC)
    while True:
        answers = _answers(box.config.web.bind, port)
        if stop.is_set():
            return
        if not answers:
            log.warning("the console does not answer itself within %d s", ANSWER_SECONDS)
            if stop.wait(BEAT_SECONDS):
                return
            continue
        try:
            with box.catalog.transaction() as tx:
                detail = {LATENCY: console.timings.as_detail()}
                processes.beat(tx, "web", os.getpid(), started, datetime.now(UTC), detail)
        except ApplianceError as error:
            log.warning("no sign of life could be recorded: %s", error)
        if stop.wait(BEAT_SECONDS):
            return
