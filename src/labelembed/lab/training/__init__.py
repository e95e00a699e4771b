"""One loop for every objective, what it leaves on the disk, and many runs at once."""
