#!/usr/bin/python
"""Ansible module: the last heartbeat of a box, verified with its key and fresh. Fails otherwise; changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible.module_utils.basic import AnsibleModule

from appliance.errors import ApplianceError
from appliance.fleet import board, roll

DOCUMENTATION = """
module: appliance_heartbeat
short_description: The last heartbeat of a box, verified
options:
  box: {description: Its name., type: str, required: true}
  key: {description: Its public key., type: str, required: true}
  board: {description: "A folder, or s3://BUCKET/PREFIX.", type: str, required: true}
  region: {description: The bucket's region., type: str, default: ca-central-1}
  endpoint_url: {description: Another provider's address., type: str, default: ""}
  fresh_minutes: {description: How old it may be., type: int, default: 60}
author: [the appliance's engineers]
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "box": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "board": {"type": "str", "required": True},
            "region": {"type": "str", "default": "ca-central-1"},
            "endpoint_url": {"type": "str", "default": ""},
            "fresh_minutes": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    told = module.params
    try:
        there = board.board(told["board"], region=told["region"], endpoint_url=told["endpoint_url"])
        data = there.read(f"{board.BOXES}{told['box']}{board.SUFFIX}")
    except ApplianceError as error:
        module.fail_json(msg=f"{error}")
        return
    fresh = timedelta(minutes=told["fresh_minutes"])
    called = roll.call(
        {told["box"]: told["key"]}, {told["box"]: data} if data else {}, datetime.now(UTC), fresh=fresh
    )
    if told["box"] in called.present:
        module.exit_json(changed=False, heartbeat=dict(called.present[told["box"]].document))
    module.fail_json(msg=f"the heartbeat of {told['box']} does not count: {called.refused[told['box']]}")


if __name__ == "__main__":
    main()
