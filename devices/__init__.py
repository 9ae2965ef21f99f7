"""What users own: devices, their keys and groups, and whether they are there."""
