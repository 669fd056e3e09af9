"""The mask travels with every activation through the unmodified code of a model; imports torch alone."""
