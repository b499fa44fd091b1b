"""How well it does: benchmarks with their workloads, their tables and their gates."""
