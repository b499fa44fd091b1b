"""Public data sets, read from their raw files and mapped to sessions and arrivals."""
