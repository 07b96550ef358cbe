"""What leads from the box to whoever supports it: the support file, remote sessions, the heartbeat. All off by default."""
