"""What happened: sessions, their active periods, and the files that hold them."""
