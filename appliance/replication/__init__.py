"""Obligations met and proven: delivery states, the courier that carries them out, and one file per destination.

`delivery` decides and does no I/O; `courier` claims, sends and writes down; `destinations` knows the remote side;
`manifest` is what lets a blank box rebuild itself from a bucket.
"""
