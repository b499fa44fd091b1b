"""Who may speak with whom: certificates, the list of those who are let in, and sockets that ask it."""
