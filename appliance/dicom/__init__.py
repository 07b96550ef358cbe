"""Everything that speaks DICOM on the wire: negotiation, the receive path, the sender, and the shape of Part 10 files."""
