"""Files for ONNX Runtime, in float32 and in 8 bits."""
