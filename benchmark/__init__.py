"""What to run, how a victim is trained and measured, and on which machines; `cli.py` is the command `bench`."""
