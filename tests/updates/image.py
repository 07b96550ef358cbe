"""A system that is an image, and says which versions it has; the tests run on one that is none."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from appliance.health import gathering

Says = Callable[..., None]


@contextmanager
def image(folder: Path) -> Iterator[Says]:
    """Lets the image say in `folder` which version runs, waits, was left and is kept for every start; until it does, there is none."""
    release: dict[str, str] = {}

    def says(running: str, waiting: str = "", left: str = "", chosen: str = "") -> None:
        folder.mkdir(exist_ok=True)
        (folder / gathering.WAITING).write_text(waiting)
        (folder / gathering.LEFT).write_text(left)
        (folder / gathering.CHOSEN).write_text(chosen)
        release["IMAGE_VERSION"] = running

    with (
        patch.object(gathering, "UPDATES", folder),
        patch.object(platform, "freedesktop_os_release", lambda: release),
    ):
        yield says
