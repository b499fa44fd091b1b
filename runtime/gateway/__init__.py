"""Where clients meet their sessions: their commands go in, and their chunks come out in order."""
