"""Graphs with equal answers whose channels suit the blocks of oneDNN and ONNX Runtime."""
