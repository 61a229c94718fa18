"""The commands of `bench`, by theme; `benchmark/cli.py` says which is where. Heavy imports stay inside the functions."""
