"""What a SQLCipher file and its write-ahead log hold in clear, page by page, rows that are there and remains alike.

SQLCipher 4: pages of 4096 bytes, the last 80 of each are its initialisation vector (16) and its HMAC; the first page begins
with 16 bytes of salt (zetetic.net/sqlcipher/design). The log: a header of 32 bytes, then frames of 24 + one page.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PAGE = 4096
RESERVED = 80
SALT = 16


def clear_pages(path: Path, key: bytes) -> bytes:
    """Every page of the database at `path` and of its log, decrypted, one after the other."""
    whole = path.read_bytes()
    pages = [whole[at : at + PAGE] for at in range(0, len(whole), PAGE)]
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        frames = log.read_bytes()
        pages += [frames[at + 24 : at + 24 + PAGE] for at in range(32, len(frames), 24 + PAGE)]
    clear = []
    for page in pages:
        if len(page) < PAGE:
            continue
        vector = page[PAGE - RESERVED : PAGE - RESERVED + 16]
        for begin in (0, SALT):  # the first page, here or as a frame of the log, begins behind the salt
            decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
            clear.append(decryptor.update(page[begin : PAGE - RESERVED]))
    return b"".join(clear)
