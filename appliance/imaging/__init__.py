"""Pixels a person can look at, made from a Part 10 stream: greyscale pipeline, colour, frames, PNG and JPEG.

Chosen: the pipeline runs in child processes (`darkroom`) with a time and a memory limit, because image decoders are C
code fed by strangers; a crash there costs one picture. The child asks for byte ranges of the object over its pipe and
gets clear text only in memory: it may not write any file. Rejected: decoding in the web process (one malformed
JPEG 2000 would end everybody's session); a pool from `concurrent.futures` (a dead worker breaks the whole pool, and
the stream would have to be sent whole: 308 MB for one frame of a CBCT).
"""

from appliance.imaging.darkroom import Darkroom
from appliance.imaging.facts import Facts
from appliance.imaging.pixels import View
from appliance.imaging.recorded import NotShown, Window

__all__ = ["Darkroom", "Facts", "NotShown", "View", "Window"]
