"""Who: users, their tokens, and how they prove themselves."""
