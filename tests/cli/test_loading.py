"""What a process imports as it begins is not looked through for what nobody holds."""

import gc
from collections.abc import Iterator

import pytest

from appliance.cli.processes import loading


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """What other tests leave behind can be collected again."""
    yield
    gc.enable()
    gc.unfreeze()


def test_the_collector_rests_while_a_process_loads_and_leaves_alone_what_it_loaded() -> None:
    gc.unfreeze()
    with loading():
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_it_works_again_where_something_could_not_be_loaded() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()
