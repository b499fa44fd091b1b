"""What makes chunks: one Protocol, an emulation that only takes the time, and a video transformer."""
