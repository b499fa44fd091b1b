"""What a controller decides about workers and sessions, as state machines without a clock, a socket or a disk."""
