"""The staff's pages that show several apps at once; each app's own admin.py has its models."""
