"""labelembed."""
