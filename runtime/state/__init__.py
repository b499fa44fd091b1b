"""Where states of sessions lie in memory, and how they get from one memory of a worker to another."""
