"""PostgreSQL, Cassandra, Redis and a MongoDB stand-in as processes of this machine."""
