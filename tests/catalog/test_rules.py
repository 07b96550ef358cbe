"""Rules come back as they were made, and only for destinations that are there."""

import pytest
from sqlalchemy import insert, update

from appliance.catalog import Catalog, rules
from appliance.catalog.schema import destinations
from appliance.errors import Unknown
from appliance.model import DestinationId, Rule, ae_title


def test_rules_come_back_in_order_until_removed(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        for name, takes in (("bucket", "ciphertext"), ("pacs", "dicom")):
            tx.execute(insert(destinations).values(name=name, kind="s3", takes=takes, options={}))
        everything = rules.add_rule(tx, Rule(DestinationId(1), "bucket", "ciphertext"))
        some = rules.add_rule(tx, Rule(DestinationId(2), "pacs", "dicom", ae_title("CT1"), "CT", 5))
        assert rules.rules(tx) == (
            Rule(DestinationId(1), "bucket", "ciphertext", None, None, 0, everything),
            Rule(DestinationId(2), "pacs", "dicom", ae_title("CT1"), "CT", 5, some),
        )
        tx.execute(update(destinations).where(destinations.c.id == 2).values(removed=True))
        assert [each.id for each in rules.rules(tx)] == [everything]
        rules.remove_rule(tx, everything)
        assert rules.rules(tx) == ()
        with pytest.raises(Unknown):
            rules.remove_rule(tx, everything)
