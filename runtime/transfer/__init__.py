"""How the state of a session gets from one worker to another: transports, and the migration on top of them."""
