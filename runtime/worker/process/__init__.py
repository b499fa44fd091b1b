"""The process around a worker's table of sessions: threads, sockets, and the ChunkModel that computes."""
