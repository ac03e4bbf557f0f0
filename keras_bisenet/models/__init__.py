"""The network: BiSeNet and its backbones, in Keras alone."""
