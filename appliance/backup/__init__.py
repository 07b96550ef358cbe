"""Backups: the catalog, the keys and the settings as of one moment, laid in every archive beside the sealed objects.

- `snapshot` is the format: what lies in the archive, and what of it proves that it is whole.
- `standing` says which of them are finished and not destroyed, as their keys say it.
- `making` copies the catalog while the box works, and sends the copy.
- `rotation` says which snapshots have had their time (a disk is rotated by the box, a bucket by its own rules).
- `fetching` brings the catalog of one back, and the key that opens it.
- `ahead` reads many documents at once from an archive that is far away.
- `restoring` makes a blank box into the one that an archive remembers: the newest snapshot, then what came after it.
- `rebuilding` reads study manifests back into the catalog: after a snapshot, or in its stead.
- `unread` tries again what of them did not open, and has the clinic told.
- `other_archives` looks through, once after a restore, what the box was not restored from: what only that knows comes too.
- `late_manifests` is how both read a manifest when the box is in service: images first, rows then.
- `homecoming` brings the images back after that, by and by.
- `recall` brings a sealed object back from an archive, when somebody wants it or in the background.

The images themselves are not in a snapshot: their ciphertext is in the archive already, each with its receipt.
"""
