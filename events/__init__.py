"""What happened: the event log, its outbox, and the documents kept beside it in MongoDB."""
