"""What is possible: numbers only, no session, no network, no device."""
