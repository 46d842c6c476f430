"""Files for MXNet, symbol and parameters, in float32 and in 8 bits; what makes its graphs fast."""
