"""What the report says about one kind of analysis each."""
