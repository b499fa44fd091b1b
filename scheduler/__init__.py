"""What to do: fleets, policies and plans, decided purely."""
