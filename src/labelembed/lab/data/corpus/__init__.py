"""Pairs of sentences: read from text, cut into tokens, kept in mapped arrays, given out in batches."""
