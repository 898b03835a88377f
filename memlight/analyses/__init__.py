"""The commands of analyze.py, one file each: a typed function whose signature is the command line."""
