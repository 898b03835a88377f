"""What lies on the disk: tables, run directories, shards, each whole or not at all."""
