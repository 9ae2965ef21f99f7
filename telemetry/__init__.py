"""What devices say: readings, where they are stored, how they get in and out."""
