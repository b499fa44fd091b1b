"""What copies, checksums and migrations of states cost on the machine at hand."""
