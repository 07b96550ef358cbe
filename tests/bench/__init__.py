"""The ingest bench: our receive path against Orthanc and storescp, on this machine, in one interleaved run.

`make bench` (`python -m tests.bench`) prints the table of the README. What keeps it honest:

* every receiver gets the same pixels from the same raw-socket senders, over loopback, and every instance has fresh UIDs, so
  nobody can answer "duplicate" or be spared a write;
* peers run with TCP_NODELAY=1, without which they lose 40 ms a message to Nagle and delayed acknowledgement, and with the
  larger PDUs that they can offer; Orthanc keeps its default fsync;
* rounds are interleaved and start with a different receiver each time; dirty pages are flushed before every measurement, so
  that nobody pays for what a neighbour left unwritten; medians are reported;
* an instance that is not answered 0000 fails the run;
* CPU seconds are taken once a receiver is quiet again, so work put off until after the answer counts too.
"""
