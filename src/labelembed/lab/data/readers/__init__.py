"""Readers: from what a person has, and the arguments of a recipe, to `RawData`."""
