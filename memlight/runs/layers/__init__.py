"""The layers of an encoder as a table, before anything is measured."""
