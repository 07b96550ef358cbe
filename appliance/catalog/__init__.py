"""What this box knows: every table, transaction and query. Nobody else writes SQL."""

from appliance.catalog.database import Catalog, Reading, Transaction
from appliance.catalog.errors import Conflict

__all__ = ["Catalog", "Conflict", "Reading", "Transaction"]
