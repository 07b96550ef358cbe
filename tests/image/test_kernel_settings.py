"""What the image asks of the kernel, beside what the processes ask."""

from pathlib import Path

from tests.image.test_configuration import CONFIG

ROOT = Path(__file__).parents[2]
OF_PROCESSES = ROOT / "systemd/sysctl.d/appliance.conf"
OF_IMAGE = ROOT / "image-build/mkosi.extra/usr/lib/sysctl.d/hardening.conf"


def read(path: Path) -> dict[str, str]:
    """Key and value of each line; a key that stands there twice is a mistake."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    found = dict(line.split(" = ") for line in lines)
    assert len(found) == len(lines)
    return found


def test_what_the_image_asks_of_the_kernel_is_asked_once() -> None:
    """Two files that set the same differ one day, and the later name wins."""
    of_image = read(OF_IMAGE)
    assert set(read(OF_PROCESSES)) & set(of_image) == set()
    assert of_image["net.ipv4.ip_forward"] == "0"
    assert all(value.strip() for value in of_image.values())


def test_what_systemd_sets_otherwise_is_taken_out() -> None:
    """OpenSCAP reads every file, whichever wins."""
    assert read(OF_IMAGE)["kernel.pid_max"] == "65536"
    assert "/usr/lib/sysctl.d/50-pid-max.conf" in CONFIG["RemoveFiles"]
