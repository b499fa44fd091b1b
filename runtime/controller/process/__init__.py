"""The process around a controller's state machine: sockets, the journal's file, and the process that plans."""
