"""One file per protocol; the catalog finds it by its `register` decorator."""
