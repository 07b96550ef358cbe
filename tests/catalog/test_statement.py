"""Compiled statements take their parameters in the order in which they are handed over."""

import pytest
from sqlalchemy import bindparam, insert, select

from appliance.catalog.schema import settings
from appliance.catalog.statement import compiled


def test_an_insert_names_its_columns_in_order() -> None:
    text = compiled(insert(settings), "key", "value", "changed_utc")
    assert text == 'INSERT INTO settings ("key", value, changed_utc) VALUES (?, ?, ?)'


def test_another_order_is_refused_at_once() -> None:
    statement = select(settings.c.key).where(
        settings.c.value == bindparam("a"), settings.c.key == bindparam("b")
    )
    with pytest.raises(ValueError, match="'a', 'b'"):
        compiled(statement, "b", "a")
