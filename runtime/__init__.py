"""Doing it: the only layer that touches clocks, processes, networks and devices."""
