"""Training methods of sequence models, many seeds at once."""
