"""From finished chunks to bytes that clients play."""
