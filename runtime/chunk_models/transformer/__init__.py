"""A causal video transformer that makes chunks by few-step flow matching over a rolling cache of keys and values."""
