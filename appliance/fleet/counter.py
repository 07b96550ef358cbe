"""What sshd runs for whoever has come in: it hands the certificate, and every line, to the desk, and shows what it says.

It knows nothing and can do nothing by itself: whoever breaks out of it, or out of sshd, is an account without the box's data.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import NotAuthorised, Transient


def run(desk: Path, environ: Mapping[str, str]) -> int:
    """Stand between the visitor and the desk until one of them leaves.

    Raises `NotAuthorised` without a certificate, `Transient` without a session.
    """
    hello = json.dumps({"ask": "counter", "certificate": certificate(environ)})
    with socket.socket(socket.AF_UNIX) as talk:
        try:
            talk.connect(str(desk))
            talk.sendall(hello.encode() + b"\n")
        except OSError as error:
            raise Transient("no session of support is open", hint="ask the clinic to open one") from error
        typing = threading.Thread(target=_pass_on, args=(talk,), daemon=True)
        typing.start()
        while piece := talk.recv(65536):
            os.write(sys.stdout.fileno(), piece)
    os._exit(0)  # the thread that waits for typing would wait for ever


def certificate(environ: Mapping[str, str]) -> str:
    """The certificate with which the visitor came in, as sshd says. Raises `NotAuthorised`."""
    try:
        lines = Path(environ["SSH_USER_AUTH"]).read_text("ascii").splitlines()
    except (KeyError, OSError, UnicodeDecodeError) as error:
        raise NotAuthorised(
            "sshd has not said who came in", hint="come in through the line that the clinic has opened"
        ) from error
    for line in lines:
        method, _, key = line.partition(" ")
        if method == "publickey":
            return key
    raise NotAuthorised(
        "nobody comes in but by a certificate", hint="come in with the one that the vendor has signed"
    )


def _pass_on(talk: socket.socket) -> None:
    try:
        while piece := os.read(sys.stdin.fileno(), 4096):
            talk.sendall(piece)
        talk.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the desk has closed
