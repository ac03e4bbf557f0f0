"""Convolutions with fewer multiplications, in exchange for larger kernels.

Both are exact but for rounding. A runtime on a CPU does neither by itself; one on a GPU has its own ways.
"""

import numpy as np


def upsampled_conv(builder, x, kernel, bias, *, name):
    """3x3 convolution and ReLU of `x` after nearest upsampling by 2, without the upsampling: 4 / 9 of the work.

    Of the nine pixels under the kernel, those that repeat one pixel of `x` share a tap. Which ones do depends on
    whether the result's row and column are even or odd, so there are four 2x2 kernels, one for each case.

    Args:
        builder: a `Builder`.
        x: `[1, H, W, I]`.
        kernel: `[3, 3, I, O]`.
        bias: `[O]`.
        name: name of the result.

    Returns:
        `[1, 2H, 2W, O]`.
    """
    phases = []
    for row in (0, 1):
        for column in (0, 1):
            taps = _merged(_merged(kernel, row, axis=0), column, axis=1)
            sides = (1 - row, row), (1 - column, column)
            part = builder.pad(x, sides, name=f"{name}_{row}{column}_pad")
            phases.append(builder.conv(part, taps, bias, padded=True, relu=True, name=f"{name}_{row}{column}"))
    return builder.depth_to_space(builder.concatenate(*phases, name=f"{name}_phases"), name=name)


def _merged(kernel, phase, axis):
    """Three taps as two: at even places the last two fall on one pixel, at odd places the first two."""
    first, second, third = np.split(kernel, 3, axis)
    pair = (first, second + third) if phase == 0 else (first + second, third)
    return np.concatenate(pair, axis)


def winograd_conv(builder, x, kernel, bias, *, name):
    """3x3 convolution and ReLU, in 2 / 3 of the work: F(2, 3) along the rows.

    Winograd's algorithm makes two neighbours of a row from four products instead of six (Lavin and Gray, "Fast
    Algorithms for Convolutional Neural Networks", 2015, arXiv:1509.09308, section 4.1). With the pixels d0 to d3 and
    the columns g0 to g2 of the kernel:

        m1 = (d0 - d2) g0    m2 = (d1 + d2) (g0 + g1 + g2) / 2    m3 = (d2 - d1) (g0 - g1 + g2) / 2    m4 = (d1 - d3) g2
        y0 = m1 + m2 + m3    y1 = m2 - m3 - m4

    Args:
        builder: a `Builder`.
        x: `[1, H, W, I]`, W even.
        kernel: `[3, 3, I, O]`.
        bias: `[O]`.
        name: name of the result.

    Returns:
        `[1, H, W, O]`.
    """
    _, height, width, channels = x.shape
    # With a column of zeros at either side, neighbours lie as one pixel of twice the channels.
    x = builder.pad(x, ((0, 0), (1, 1)), name=f"{name}_pad")
    pairs = builder.reshape(x, (1, height, width // 2 + 1, 2 * channels), name=f"{name}_pairs")
    d0, d1, d2, d3 = (
        builder.part(pairs, (0, 0, pair, channel), (1, height, width // 2, channels), name=f"{name}_d{2 * pair + odd}")
        for pair in (0, 1)
        for odd, channel in enumerate((0, channels))
    )
    g0, g1, g2 = np.split(kernel, 3, axis=1)
    sums = (
        (builder.subtract(d0, d2, name=f"{name}_d02"), g0, bias),
        (builder.add(d1, d2, name=f"{name}_d12"), (g0 + g1 + g2) / 2, 0 * bias),
        (builder.subtract(d2, d1, name=f"{name}_d21"), (g0 - g1 + g2) / 2, 0 * bias),
        (builder.subtract(d1, d3, name=f"{name}_d13"), g2, -bias),
    )
    m1, m2, m3, m4 = (
        builder.conv(difference, taps, shift, name=f"{name}_m{number}")
        for number, (difference, taps, shift) in enumerate(sums, start=1)
    )
    even = builder.add(builder.add(m1, m2, name=f"{name}_m12"), m3, relu=True, name=f"{name}_even")
    odd = builder.subtract(builder.subtract(m2, m3, name=f"{name}_m23"), m4, relu=True, name=f"{name}_odd")
    both = builder.concatenate(even, odd, name=f"{name}_both")
    return builder.reshape(both, (1, height, width, bias.size), name=name)
