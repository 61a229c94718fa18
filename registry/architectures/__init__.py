"""One file per family of networks; the catalog finds it by its `register` decorator."""
