"""Long campaigns that break things on purpose; `make test` runs a short form of each, `make campaign` as long as told."""
