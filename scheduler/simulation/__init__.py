"""A policy on a trace in virtual time: what users would have felt, and what it would have cost."""
