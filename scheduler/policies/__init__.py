"""Policies: each decides a plan from a snapshot, and nothing else."""
