"""What happened in a live run, written down, read again, and held against the simulator."""
