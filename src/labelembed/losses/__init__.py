"""Losses as pure functions: `reference` in plain lines, `chunked` the same for many labels, `linear` chooses."""
