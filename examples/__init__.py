"""Inputs and programs to begin from."""
