"""One file per attack; the catalog finds it by its `register` decorator."""
