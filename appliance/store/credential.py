"""What a sealed credential of systemd says of itself: by which key it opens.

Base64 text, broken into lines. Before all else it has the 16 bytes of an id128, the key type (`struct encrypted_credential_header`
and ``CRED_AES256_GCM_BY_*`` in systemd's src/shared/creds-util.h and creds-util.c, 252 to 257)::

    0c7cc07b…  TPM2                      5a1c6a86…  the host's key: /var/lib/systemd/credential.secret, on the same disk
    faf7eb93…  TPM2, signed policy       55b9ed1d…  the host's key, for one user
    93a89409…  host's key and TPM2       058469da…  no key at all
    ef4ac136…    the same, for one user
    af4950a8…  host's key and TPM2, signed policy
    adbc4ca3…    the same, for one user

``--with-key=auto`` makes the third, or the host's key alone where systemd finds no TPM2 at that moment. Chose to read this rather
than to look whether the machine has a TPM2, because a chip that came late, or was switched on later, guards nothing.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

_ID_BYTES: Final = 16
_ID_CHARACTERS: Final = 24
"""Of base64, that hold the id and two bytes more."""
_BY_TPM2: Final = frozenset(
    {
        "0c7cc07b117645919c4b0bea08bc20fe",
        "faf7eb9341e3412ca1a436f95a29362f",
        "93a894094874449090caf2fc93cab553",
        "ef4ac13679a9480ea7db68897f9f165d",
        "af4950a849134eb1a73846304ff30c05",
        "adbc4ca3efb64201ba881b6f2e4095ea",
    }
)


def is_by_tpm2(sealed: bytes) -> bool:
    """Whether `sealed`, as ``systemd-creds encrypt`` writes it, opens only with a TPM2; not if its key type is not known here."""
    text = b"".join(sealed[: 8 * _ID_CHARACTERS].split())[:_ID_CHARACTERS]
    try:
        key_type = base64.b64decode(text, validate=True)[:_ID_BYTES]
    except binascii.Error:
        return False
    return key_type.hex() in _BY_TPM2
