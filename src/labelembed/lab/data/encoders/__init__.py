"""Encoders: what is learned of training examples alone, and turns examples into inputs."""
