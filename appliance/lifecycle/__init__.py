"""What becomes of images once they are stored: `scrub` reads every one again within the month, and mends what time has damaged."""
