"""A whole system on one machine: a gateway, a controller and its workers, kept running."""
