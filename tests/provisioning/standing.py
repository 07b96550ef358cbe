"""Who is connected to the box by SSH when the firewall's rules are first loaded stays connected, from wherever they let him in.

`python -m tests.provisioning.standing RULES`, begun in a network of its own (`tests.networks.apart`): the rules let `FAR`'s network in by SSH.
There is no rule before them, as on a stock Debian, so the kernel has kept no list of connections; and it is the box that speaks
first once they are loaded, as it does to Ansible when it says that they are.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.networks import Network, another, run
from tests.provisioning.walls import BOX, BOX6, FAR, FAR6, NFT

PATIENCE_SECONDS = 20
SSH = 22
CLIENT = f"""\
import socket, sys
with socket.create_connection((sys.argv[1], {SSH}), {PATIENCE_SECONDS}) as line:
    print("connected", flush=True)
    print(line.recv(10).decode(), flush=True)
"""
CALLER = f"""\
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as calling:
    calling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    calling.bind((sys.argv[2], {SSH}))
    calling.settimeout({PATIENCE_SECONDS})
    try:
        calling.connect((sys.argv[1], 5000))
    except OSError as error:
        print(type(error).__name__)
    else:
        print("reached")
"""


def tell(rules: Path) -> None:
    """Connect, load the rules, and let the box speak."""
    with another() as network:
        network.cable(ours=("box0", f"{BOX[1]}/24"), theirs=("street0", f"{FAR}/24"))
        run("ip", "address", "add", f"{BOX6[1]}/64", "dev", "box0", "nodad")
        run(*network.inside, "ip", "address", "add", f"{FAR6}/64", "dev", "street0", "nodad")
        for target in (BOX[1], BOX6[1]):
            hears(network, target, rules)
        print("who was connected hears the box after the rules are loaded")
        run(NFT, "--file", rules)
        for target, ours in ((FAR, BOX[1]), (FAR6, BOX6[1])):
            done = subprocess.run(
                [sys.executable, "-I", "-c", CALLER, target, ours],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            assert done.stdout.strip() != "reached", target
            assert done.stdout.strip() != "ConnectionRefusedError", "it is its own rules that hold it"
        print("and nobody calls from the box by that")


def hears(network: Network, target: str, rules: Path) -> None:
    """A client that is connected before the rules are there."""
    run(NFT, "flush", "ruleset")
    with socket.create_server(("::", SSH), family=socket.AF_INET6, dualstack_ipv6=True) as door:
        client = [*network.inside, sys.executable, "-I", "-c", CLIENT, target]
        with subprocess.Popen(client, stdout=subprocess.PIPE, text=True) as connected:
            assert connected.stdout is not None
            there, _ = door.accept()
            with there:
                assert connected.stdout.readline() == "connected\n"
                run(NFT, "--file", rules)
                there.sendall(b"changed")
                assert connected.stdout.readline() == "changed\n", f"{target}: the box is not heard"


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
