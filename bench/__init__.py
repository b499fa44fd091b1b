"""Measurements: each prints a table, and its small form is a gate."""
