"""Every term from the papers' equations, as loops over Python floats. Imports nothing of the package."""
