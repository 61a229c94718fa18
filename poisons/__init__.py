"""Runs an attack once, checks what it made, keeps the poisoned training set, and hands the same one to every cell that asks.

`recipe.py` names a training set without torch, `store.py` makes and keeps it, `cache/` in a workspace holds the files.
"""
