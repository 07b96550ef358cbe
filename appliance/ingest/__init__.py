"""The straight line: an instance arrives, is sealed, is recorded with everything it is owed, is acknowledged.

- `accept` records sealed, durable instances in one transaction: catalog, deliveries, audit.
- `sealing` seals an instance while it arrives, in memory or into a part file; no clear byte touches a disk.
- `reception` is the door for DICOM: durable in the intake log, answered, then accepted in batches.
- `importing` is the door for everything that can wait: sealed into a file, accepted at once.
- `orphans` removes what a crash left behind before anything was promised.
"""

from appliance.ingest.accept import accept
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.importing import import_file
from appliance.ingest.orphans import OrphanSweep
from appliance.ingest.reception import Arrival, Reception

__all__ = ["Arrival", "Awaiting", "OrphanSweep", "Reception", "accept", "import_file"]
