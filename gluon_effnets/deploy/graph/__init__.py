"""The graph of inference, and what every way out does to it: BN folded, what no image changes computed."""
