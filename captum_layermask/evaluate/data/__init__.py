"""A folder becomes images, with their classes, object masks and saliency maps."""
