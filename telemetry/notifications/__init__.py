"""Who is told of alerts: channels, and what goes through them."""
