"""Leaf modules any app may use; they know no app and no model."""
