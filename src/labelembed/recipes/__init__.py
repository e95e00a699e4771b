"""Recipes: YAML in, checked; data, network and runs out."""

from labelembed.recipes.loading import load_recipe, shipped_recipes
from labelembed.recipes.schema import Recipe

__all__ = ["Recipe", "load_recipe", "shipped_recipes"]
