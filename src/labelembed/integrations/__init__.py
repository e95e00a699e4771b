"""The objectives inside the tools people train with: transformers, scikit-learn, Lightning, ONNX.

One file each, imported by its full name: `import labelembed` imports none of those tools.
"""
