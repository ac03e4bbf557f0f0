"""`keras_bisenet.inference.isolated_worker` with a network that some photos harm, by their first value."""

import ctypes
import os
import sys

from keras_bisenet.inference import isolated_worker, predictors

CRASHES, HANGS, FILLS_THE_MEMORY, CUTS_THE_MEMORY = 11, 12, 13, 14


class FragileNetwork(predictors.TFLiteNetwork):
    def labels(self, image):
        first = image[0, 0, 0]
        if first == CRASHES:
            os.abort()
        if first == HANGS:
            # As native code may, without Python going on meanwhile.
            ctypes.PyDLL(None).pause()
        if first == FILLS_THE_MEMORY:
            bytearray(2**33)
        if first == CUTS_THE_MEMORY:
            os.truncate(int(sys.argv[1]), 0)
        return super().labels(image)


if __name__ == "__main__":
    predictors.TFLiteNetwork = FragileNetwork
    isolated_worker.main(sys.argv[1])
