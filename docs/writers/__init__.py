"""Tables and figures of the documents, written from records; docs/generate.py puts them in their places."""
