"""A whole deployment in one thread and in virtual time, with a seed for all that goes wrong."""
