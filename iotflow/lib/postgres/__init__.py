"""Django's backend for PostgreSQL, under a breaker, and with an end to waiting."""
