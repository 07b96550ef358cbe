"""What the box speaks TLS with to others: version 1.2 or newer, ephemeral keys, no SHA-1, whatever the system's own list says.

Debian's Python takes OpenSSL's list as it is, which still has suites of TLS 1.0; one that is built from its source does not.
"""

from __future__ import annotations

import ssl
from typing import Final

CIPHERS: Final = "ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""For TLS 1.2; those of 1.3 are all new."""


def forward_secret(context: ssl.SSLContext) -> ssl.SSLContext:
    """`context`, with nothing older than that."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context
