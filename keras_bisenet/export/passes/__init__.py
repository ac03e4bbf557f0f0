"""Graph passes: functions Keras functional model -> Keras functional model that computes the same in fewer steps.

A pass is a list of rules for `rewriting.rewrite`; passes share one walk over the model. Results are equal but for
rounding, which a test bounds by 1e-9 of the largest logit in float64.
"""

import keras

from keras_bisenet.export.passes import column_pairs, fast_convs, folding, rewriting, subsampling

FOLD = (folding.fix_conv, folding.fold_batch_norm, folding.fold_scale, folding.add_one_to_gate)

# Precision -> the rules of its files. The rewritten convolutions are larger and only faster on CPUs, so float16 and
# dynamic-range files keep the plain ones. The last are those of int8 scores: not all compilers of NPUs take a
# concatenation with constants, which pads with a color, and the reshape of a whole photo.
RULES = {
    "float32": (*FOLD, fast_convs.split_upsampled_conv, fast_convs.winograd),
    "float16": FOLD,
    "dynamic": (*FOLD, column_pairs.pair_columns, subsampling.subsample),
    "int8": (*FOLD, folding.fold_offset, column_pairs.pair_columns),
    "int8_scores": (*FOLD, folding.offset_to_channel),
}


def optimize(model: keras.Model, precision: str) -> keras.Model:
    """A deployment model in the operations that a precision is fastest with.

    Args:
        model: functional Keras model of fixed size, see `deployment.deploy`.
        precision: key of `RULES`.

    Returns:
        Functional Keras model of the same inputs and outputs.

    Raises:
        ExportError: see `rewriting.rewrite`.
    """
    return rewriting.rewrite(model, RULES[precision])
