"""Says why sysupdate took nothing from an address, in a word: for people, after it has judged.

    update_refusal.py ADDRESS

``unreachable``: the list of digests can't be had there. ``refused``: it can, and isn't signed with the vendor's key. ``unfinished``: it
is, so what failed came after. sysupdate ends with 1 for each of them. Nothing is let in by what is found here.

Rejected reading the reason from what sysupdate prints, which is for people and changes.
"""

import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

KEYS = "/usr/lib/systemd/import-pubring.gpg"
LONGEST_BYTES = 1 << 20
ASK_SECONDS = 60
GPG = [
    "gpg",
    "--no-options",
    "--no-default-keyring",
    "--no-auto-key-locate",
    "--no-auto-check-trustdb",
    "--batch",
    "--trust-model=always",
]
"""As systemd asks it (`verify_gpg` in its pull-common.c)."""


def main() -> int:
    """Print the word."""
    print(why(sys.argv[1].rstrip("/")))
    return 0


def why(address: str) -> str:
    """The word for `address`. Raises `OSError` where nothing can be judged."""
    try:
        listed = fetched(f"{address}/SHA256SUMS")
        signature = fetched(f"{address}/SHA256SUMS.gpg")
    except urllib.error.HTTPError as error:
        return "refused" if error.url.endswith(".gpg") and error.code == 404 else "unreachable"
    except (OSError, ValueError):
        return "unreachable"
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("listed", listed), ("signature", signature)):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        said = [
            f"--homedir={folder}",
            f"--keyring={KEYS}",
            "--verify",
            f"{folder}/signature",
            f"{folder}/listed",
        ]
        judged = subprocess.run(
            [*GPG, *said],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ASK_SECONDS,
            check=False,
        )
    return "refused" if judged.returncode else "unfinished"


def fetched(address: str) -> bytes:
    """What lies there; whoever calls has seen that the address begins with http."""
    with urllib.request.urlopen(address, timeout=ASK_SECONDS) as answer:
        return answer.read(LONGEST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
