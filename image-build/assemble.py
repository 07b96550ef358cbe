"""Lays out what the image takes from elsewhere in this tree: `python image-build/assemble.py TREE`.

The units are those of ``systemd/``; firewall, front and time come out of the roles of ``provisioning/`` with their own
defaults (but for `OF_THE_IMAGE`). So a stock Debian that was provisioned and the image cannot differ in what they let in.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
ROLES = ROOT / "provisioning" / "roles"

FOLDERS = {
    "system": "usr/lib/systemd/system",
    "libexec": "usr/lib/appliance/libexec",
    "journald.conf.d": "usr/lib/systemd/journald.conf.d",
    "coredump.conf.d": "usr/lib/systemd/coredump.conf.d",
    "logind.conf.d": "usr/lib/systemd/logind.conf.d",
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
    "sysctl.d": "usr/lib/sysctl.d",
}
"""Where each folder of ``systemd/`` goes."""

TEMPLATES = (
    ("firewall", "nftables.conf.j2", "etc/nftables.conf"),
    ("front", "nginx.conf.j2", "etc/nginx/nginx.conf"),
    ("base", "chrony.conf.j2", "etc/chrony/conf.d/appliance.conf"),
)
"""What the roles write: role, template, and where it goes."""

OF_THE_IMAGE: dict[str, dict[str, Any]] = {
    "firewall": {
        "firewall_resolvers": ["systemd-resolve"],
        "firewall_accounts": ["appliance"],
        "firewall_updaters": ["update-way"],
    }
}
"""What the image says otherwise than a role's defaults: every program on it asks systemd-resolved, at this machine (scripts/finish). Nobody
administers it from within, and what root writes it has fetched by an account of its own: so root calls nobody."""


def main() -> None:
    """Parse the arguments and lay it out."""
    parser = argparse.ArgumentParser(prog="assemble.py", description=__doc__)
    parser.add_argument("tree", type=Path, help="the folder to make; what is in it is removed")
    parser.add_argument("--update-key", type=Path, help="the public key that updates are signed with")
    parser.add_argument(
        "--update-address", help="where a box looks for updates, if nobody tells it otherwise"
    )
    arguments = parser.parse_args()
    assemble(arguments.tree, arguments.update_key, arguments.update_address)


def assemble(tree: Path, update_key: Path | None = None, update_address: str | None = None) -> None:
    """Make `tree`; `update_key` is a keyring as gpg exports it, `update_address` an address of HTTPS.

    Raises `ValueError` for any other: a list's signature is good for ever, and who stands in between could show a box an old one each night.
    """
    if update_address and not update_address.startswith("https://"):
        raise ValueError(f"{update_address} is no address of HTTPS: name one in UPDATE_ADDRESS")
    shutil.rmtree(tree, ignore_errors=True)
    for name, place in FOLDERS.items():
        shutil.copytree(UNITS / name, tree / place)
    for role, template, place in TEMPLATES:
        _write(tree / place, rendered(role, template))
    front = tree / "usr/lib/systemd/system/nginx.service.d/appliance.conf"
    _write(front, (ROLES / "front/files/nginx.service.conf").read_text())
    zone = tree / "etc/localtime"
    zone.symlink_to(f"../usr/share/zoneinfo/{defaults('base')['base_time_zone']}")
    (tree / "etc/appliance").mkdir()
    _write(tree / "usr/share/doc/appliance/README.md", (ROOT / "README.md").read_text())
    if update_address:
        _write(tree / "usr/share/appliance/update/source", f"{update_address}\n")
    if update_key is not None:
        # systemd 257 reads this name; later releases read the same with .pgp.
        place = tree / "usr/lib/systemd/import-pubring.gpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(update_key, place)
        place.chmod(0o644)


def defaults(role: str) -> dict[str, Any]:
    """The variables of a role, as it ships them."""
    return dict(yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()))


def variables(role: str) -> dict[str, Any]:
    """The variables of a role, as the image has them."""
    return defaults(role) | OF_THE_IMAGE.get(role, {})


def rendered(role: str, template: str) -> str:
    """What the role writes with them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLES / role / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(variables(role))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
