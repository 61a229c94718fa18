"""One file per defense; the catalog finds it by its `register` decorator."""
