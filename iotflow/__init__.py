"""IoTFlow: an IoT backend over PostgreSQL, Cassandra, Redis and MongoDB."""

__version__ = "0.1.0"
