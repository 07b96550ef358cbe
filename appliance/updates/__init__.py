"""New versions of the box's own image: when the one that waits may start, and what became of those before.

The image fetches and writes them (`image-build/README.md`); nothing here does. A provisioned Debian has none.
"""
