"""Nothing that somebody presses or shuts puts a box to sleep."""

from pathlib import Path

from tests.image.test_configuration import settings
from tests.image.test_configuration import tree as _tree
from tests.provisioning.test_playbooks import SLEEPS, UNHEARD

tree = _tree


def test_no_key_and_no_lid_puts_it_to_sleep(tree: Path) -> None:
    """logind hears every keyboard that is plugged in; asleep, a box receives nothing and tells nobody."""
    for name in SLEEPS:
        assert (tree / "usr/lib/systemd/system" / name).readlink() == Path("/dev/null"), name
    said = settings(tree / "usr/lib/systemd/logind.conf.d/appliance.conf")
    assert {name for name, value in said.items() if value == ["ignore"]} == said.keys() == UNHEARD
