"""Which training patches a generated image reuses: a grid of patches, their embeddings on disk, exact search."""
