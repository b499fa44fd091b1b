"""Who starts and stops the processes of workers, and sees them exit."""
