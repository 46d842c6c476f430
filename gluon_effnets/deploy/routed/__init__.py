"""Networks of several widths whose gate chooses one for every image."""
