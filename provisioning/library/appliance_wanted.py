#!/usr/bin/python
"""Ansible module: sign what is wanted of a box and lay it where the box fetches it with its next heartbeat.

Changes nothing when the same is wanted already and still holds for as long as a ring waits for a box, so a second run is quiet.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ApplianceError, Refused
from appliance.fleet import board, wanted
from appliance.fleet.wanted import Wanted

DOCUMENTATION = """
module: appliance_wanted
short_description: What is wanted of a box, signed
options:
  box: {description: Its name., type: str, required: true}
  board: {description: "A folder, or s3://BUCKET/PREFIX.", type: str, required: true}
  region: {description: The bucket's region., type: str, default: ca-central-1}
  endpoint_url: {description: Another provider's address., type: str, default: ""}
  key_file: {description: "The vendor's key (ssh-keygen -t ed25519), without a passphrase.", type: path, required: true}
  software: {description: The version that its updater should bring., type: str, default: ""}
  settings: {description: "Settings health.* by name.", type: dict, default: {}}
  after: {description: The number that the box has taken last., type: int, default: 0}
  running: {description: The version that the box says it runs., type: str, default: ""}
author: [the appliance's engineers]
"""

HOLDS, RENEWED = timedelta(days=30), timedelta(days=24)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "box": {"type": "str", "required": True},
            "board": {"type": "str", "required": True},
            "region": {"type": "str", "default": "ca-central-1"},
            "endpoint_url": {"type": "str", "default": ""},
            "key_file": {"type": "path", "required": True, "no_log": False},
            "software": {"type": "str", "default": ""},
            "settings": {"type": "dict", "default": {}},
            "after": {"type": "int", "default": 0},
            "running": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        number, changed = _want(module)
    except ApplianceError as error:
        module.fail_json(msg=f"{error}")
    else:
        module.exit_json(changed=changed, number=number)


def _want(module: AnsibleModule) -> tuple[int, bool]:
    """The number of what is wanted, and whether it is new."""
    told, now = module.params, datetime.now(UTC)
    private = _key(Path(told["key_file"]))
    there = board.board(told["board"], region=told["region"], endpoint_url=told["endpoint_url"])
    name = f"{board.WANTED}{told['box']}{board.SUFFIX}"
    before = None
    if lying := there.read(name):
        try:
            before = wanted.opened(lying, private.public_key())
        except wanted.NotSigned:
            module.warn(f"what lay there for {told['box']} was not signed with this key, and is replaced")
    running = told["running"]
    if told["software"] and wanted.is_older(told["software"], running):
        raise Refused(
            f"{told['box']} runs {running} already, and never goes back to {told['software']}",
            hint=f"name {running}, or a newer version",
        )
    # Whoever chooses limits names no version: the one that holds a box back goes on holding it, unless the box has gone ahead of it.
    if not told["software"] and before is not None and before.software:
        told["software"] = wanted.later(before.software, running)
    if (
        before is not None
        and (before.software, dict(before.settings)) == (told["software"], told["settings"])
        and before.until_utc > now + RENEWED
    ):
        return before.number, False
    number = max(before.number if before else 0, told["after"]) + 1
    made = Wanted(told["box"], number, now + HOLDS, told["software"], told["settings"])
    data = wanted.signed(made, private)
    if not module.check_mode:
        there.write(name, data)
    return number, True


def _key(path: Path) -> Ed25519PrivateKey:
    hint = "make one: ssh-keygen -t ed25519 -N '' -f fleet.key"
    try:
        private = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise Refused("the vendor's key cannot be read", hint=hint) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise Refused("the vendor's key is of another kind", hint=hint)
    return private


if __name__ == "__main__":
    main()
