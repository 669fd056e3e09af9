"""Every activation of an unmodified model carries a mask; imports torch alone."""
