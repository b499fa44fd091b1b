"""One control epoch as numbers: where sessions of each class sit, which move, and what proves that none is better."""
