"""One module per noun: a page is a pure function from a question to a view, drawn by its template."""
