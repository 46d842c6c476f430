"""Libraries compiled by Apache TVM."""
