"""One file per data set; the catalog finds it by its `register` decorator."""
