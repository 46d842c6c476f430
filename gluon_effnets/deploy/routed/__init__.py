"""Networks of several widths whose gate chooses one for every image: run as static graphs, and as files."""
