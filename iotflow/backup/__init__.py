"""A whole installation as files, out of any combination of stores and into any other."""
