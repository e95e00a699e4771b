"""Recipes: YAML in, checked; data, network and runs out."""

from labelembed.lab.recipes.loading import load_recipe, shipped_recipes
from labelembed.lab.recipes.schema import Recipe

__all__ = ["Recipe", "load_recipe", "shipped_recipes"]
