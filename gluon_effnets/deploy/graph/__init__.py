"""What every way out does to a graph: the graph of inference, and what does not depend on images computed."""
