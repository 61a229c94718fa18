"""Submissions: which records are packed for others, how theirs are judged, kept, and checked again here.

`results/bundle.py` looks at a bundle by itself; here its cells meet the registry. Entries are imported by the names that are
installed here, and asked for their budget and recipe; nothing of a bundle is run. Crafting and training again happen only
when they are asked for.
"""
