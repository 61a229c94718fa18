"""One file per measurement beside accuracy; the catalog finds it by its `register` decorator."""
