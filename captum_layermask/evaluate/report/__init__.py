"""Records become tables, figures and one page."""
