"""A clinic edge appliance: an instance arrives, is sealed, is recorded with everything it is owed, is acknowledged,
and every obligation is then met and proven.

The map of the packages, and who may import whom, is the layers contract in ``pyproject.toml``.
"""

__version__ = "0.1.0"
