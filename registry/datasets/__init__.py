"""One file per dataset; the catalog finds it by its `register` decorator."""
