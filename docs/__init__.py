"""The documentation: pages in Markdown, and what writes the parts of them that come from the code."""
