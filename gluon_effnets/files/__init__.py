"""Files as they come and go: read as if a stranger had sent them, written whole or not at all."""
