"""One worker process: what it holds, and what follows from commands and from its own events."""
