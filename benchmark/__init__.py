"""What to run, how a victim is trained and measured, and where; `cli.py` and `commands/` are the command `bench`."""
