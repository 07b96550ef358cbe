"""The command ``appliance``: one module for each noun; `command` is the whole vocabulary and the edge for errors."""

from appliance.cli.command import main

__all__ = ["main"]
