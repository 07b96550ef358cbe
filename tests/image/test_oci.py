"""The container for evaluation is made of what the product is made of, and nobody can take it for the hardened one."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
import yaml

from appliance.config import DicomConfig, WebConfig

ROOT = Path(__file__).parents[2]
OCI = ROOT / "image-build/oci"
CONTAINERFILE = (OCI / "Containerfile").read_text("utf-8")


def test_it_has_the_libraries_that_a_provisioned_debian_has() -> None:
    tasks = yaml.safe_load((ROOT / "provisioning/roles/base/tasks/main.yml").read_text("utf-8"))
    packages = next(each["ansible.builtin.apt"]["name"] for each in tasks if "ansible.builtin.apt" in each)
    wanted = {each for each in packages if each.startswith(("lib", "fonts-"))}
    assert wanted
    assert wanted <= set(CONTAINERFILE.split())


def test_it_has_one_volume_the_two_ports_and_no_root() -> None:
    assert re.findall(r"^VOLUME (.+)$", CONTAINERFILE, re.MULTILINE) == ["/var/lib/appliance"]
    assert re.findall(r"^EXPOSE (.+)$", CONTAINERFILE, re.MULTILINE) == [
        f"{WebConfig().port} {DicomConfig().port}"
    ]
    last = CONTAINERFILE.rindex("FROM ")
    assert re.findall(r"^USER (.+)$", CONTAINERFILE[last:], re.MULTILINE) == ["appliance"]
    assert "APPLIANCE_DATA=/var/lib/appliance" in CONTAINERFILE


def test_every_package_is_installed_by_its_hash_and_no_installer_is_left() -> None:
    assert "--require-hashes" in CONTAINERFILE
    assert "pip uninstall" in CONTAINERFILE
    assert (ROOT / "requirements-3.13-box.lock").exists()
    assert "requirements-3.13-box.lock" in (OCI / "build").read_text("utf-8")


def test_no_key_of_a_host_is_in_it() -> None:
    assert "/etc/ssh/ssh_host_*" in CONTAINERFILE


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("image-build/oci/README.md", "not the hardened product"),
        ("README.md", "not the hardened product"),
        ("web-ui/help/en/runbooks.html", "not the hardened product"),
        ("web-ui/help/fr/runbooks.html", "n’est pas le produit durci"),
    ],
)
def test_it_is_said_that_it_is_not_the_hardened_product(path: str, words: str) -> None:
    assert words in re.sub(r"\s+", " ", unescape((ROOT / path).read_text("utf-8")))


def test_the_script_is_sound() -> None:
    shellcheck = shutil.which("shellcheck")
    assert shellcheck is not None, "run make setup"
    told = subprocess.run([shellcheck, str(OCI / "build")], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
