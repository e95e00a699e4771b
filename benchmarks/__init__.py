"""Speed as ratios measured on this machine; `make bench` prints them. Never timed tests."""
