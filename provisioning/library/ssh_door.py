#!/usr/bin/python
"""Ansible module: whether the one who runs the playbook could come back by SSH once the firewall's rules are loaded. Changes nothing.

Run without `become`, which would take away what sshd says of the connection. Says from which address the run comes (`came`; empty at the
machine itself).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: ssh_door
short_description: Whether this run could come back by SSH once the firewall's rules are loaded
options:
  networks: {description: Those that the rules let in., type: list, elements: str, required: true}
  shut: {description: "Nobody is to come in: said by whoever leaves networks empty.", type: bool, default: false}
  by: {description: "Ansible's name of the way that this run comes.", type: str, default: ssh}
author: [the appliance's engineers]
"""

PORT = 22
"""The only one that the rules open (roles/firewall/templates/nftables.conf.j2)."""
BY_SSH = ("smart", "ssh", "paramiko", "paramiko_ssh", "libssh")
"""Ansible's connections, by their last name, behind which there is an sshd."""


def shut_out(connection: str, networks: Sequence[str], *, shut: bool, by: str = "ssh") -> str:
    """Why this run would be the last, in words for the operator; empty if it would not.

    `connection` is sshd's own word (SSH_CONNECTION): address and port of who came, address and port at which. Empty it says nothing, unless
    the run comes another way than `by` SSH.
    """
    known = []
    for each in networks:
        try:
            known.append(ip_network(each, strict=False))
        except ValueError:
            return f"firewall_ssh_from: {each} is no network"
    if shut and not known:
        return ""
    if not connection:
        if by.rpartition(".")[2] not in BY_SSH:
            return ""
        return (
            "the box does not say from where you come (SSH_CONNECTION), so nobody knows whether you could come back. Come by its sshd without"
            " sudo or su in between (ansible_become may stand in the inventory, but not behind -e), or run the playbook at the machine itself"
            " (--connection local)"
        )
    if not known:
        return (
            "firewall_ssh_from is empty, so nobody could come in by SSH any more. Name the network of those who look after the box;"
            " if nobody is to come in, say -e firewall_shut_ssh=true: SSH is then shut when all else is done"
        )
    address, port = _who(connection)
    if not any(address in each for each in known):
        return f"you come from {address}, which none of firewall_ssh_from ({', '.join(networks)}) lets in: this would be your last run"
    if port != PORT:
        return f"you come in at port {port}, and the rules open {PORT} alone: let sshd listen there first"
    return ""


def _who(connection: str) -> tuple[IPv4Address | IPv6Address, int]:
    """From which address somebody comes, and in at which port."""
    came, _, _, port = connection.split()
    address = ip_address(came.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address, int(port)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "networks": {"type": "list", "elements": "str", "required": True},
            "shut": {"type": "bool", "default": False},
            "by": {"type": "str", "default": "ssh"},
        },
        supports_check_mode=True,
    )
    told = module.params
    connection = os.environ.get("SSH_CONNECTION", "")
    if why := shut_out(connection, told["networks"], shut=told["shut"], by=told["by"]):
        module.fail_json(msg=f"{why}. Nothing was changed.")
    module.exit_json(changed=False, came=f"{_who(connection)[0]}" if connection else "")


if __name__ == "__main__":
    main()
