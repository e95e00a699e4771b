"""The objectives inside the tools people already train with: transformers, scikit-learn, Lightning.

Thin adapters over objectives, training and recipes. Each lives in a module of its own that is imported by its full
name, so that `import labelembed` imports none of those tools.
"""
