"""The `epochal` command line."""
