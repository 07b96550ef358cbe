"""Ansible action: tell each box of a ring what is wanted, and wait until all have it. One for the whole ring (``run_once``).

It ends when all are done, in the round in which one has failed for good, or when `retries` × `delay_seconds` are over, by the clock on the
wall, since what was signed holds by that. Fails itself for what concerns no box alone; else each box finds under its name, in ``boxes``, how
far it is (`appliance.fleet.ring.How`), why, and whether something new was laid for it. A line says so whenever that changes. It waits in
here, so that how many boxes are waited for is no matter of Ansible's forks.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ApplianceError, Refused
from appliance.fleet import board
from appliance.fleet.ring import How, Ring, Standing, Wish

TOLD = {
    "keys": {"type": "dict", "required": True, "no_log": False},  # of each box of the ring its public key
    "clinics": {"type": "dict", "default": {}},  # of each box what people call it
    "board": {"type": "str", "required": True},  # a folder, or s3://BUCKET/PREFIX
    "region": {"type": "str", "default": "ca-central-1"},
    "endpoint_url": {"type": "str", "default": ""},
    "key_file": {"type": "path", "required": True, "no_log": False},  # the vendor's, without a passphrase
    "software": {"type": "str", "default": ""},  # the version that its updater should bring
    "settings": {"type": "dict", "default": {}},  # settings health.* by name
    "mend": {"type": "bool", "default": False},  # tell the version to boxes that are not well, too
    "retries": {"type": "int", "required": True},
    "delay_seconds": {"type": "int", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    """The action."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, told = self.validate_argument_spec(TOLD)
        wish = Wish(told["software"], told["settings"], told["mend"])
        try:
            private = _key(Path(told["key_file"]))
        except ApplianceError as error:
            raise AnsibleActionFail(f"{error}") from error
        is_rehearsed = bool(self._task.check_mode)
        ring = Ring(told["keys"], wish, private, rehearses=is_rehearsed)
        delay = timedelta(seconds=max(1, told["delay_seconds"]))

        def there() -> board.Board:  # made anew for each round: days later the account may be another
            return board.board(told["board"], region=told["region"], endpoint_url=told["endpoint_url"])

        def say(at: datetime, box: str, standing: Standing) -> None:
            if standing.how is not How.FAILED:  # that is said where the ring ends
                Display().display(f"{at:%Y-%m-%d %H:%M}Z {told['clinics'].get(box) or box} {standing.why}")

        ring.wait(
            there,
            timedelta(0) if is_rehearsed else told["retries"] * delay,
            delay,
            say=say,
            now=lambda: datetime.now(UTC),
            pause=time.sleep,
        )
        boxes = {
            box: {"how": str(each.how), "why": each.why, "changed": each.is_changed}
            for box, each in ring.standings.items()
        }
        return result | {"changed": False, "boxes": boxes}


def _key(path: Path) -> Ed25519PrivateKey:
    hint = "make one: ssh-keygen -t ed25519 -N '' -f fleet.key"
    try:
        private = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise Refused("the vendor's key cannot be read", hint=hint) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise Refused("the vendor's key is of another kind", hint=hint)
    return private
