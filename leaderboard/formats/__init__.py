"""Tables as text: Markdown, LaTeX, CSV, JSON, and for a terminal."""
