"""Recipes into run folders: build, train, compare, and read again what a run left."""
