"""Trained networks on images: accuracy, classes of single images, routes, reused features."""
