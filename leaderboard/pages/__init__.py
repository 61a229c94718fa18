"""The pages of the site, their pictures, and what puts all of it together."""
