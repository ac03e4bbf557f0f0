"""Independent truth: our PyTorch network and its training, and ONNX Runtime."""
