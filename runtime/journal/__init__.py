"""What a controller has decided, on disk before it takes effect, so that the next one can go on from there."""
