// Face parsing on Android with LiteRT on an NPU: a photo in, the class of each pixel out.
// The model is a file of `port_and_export.py --target npu`, which returns int8 scores, see README.md.
package com.example.faceparsing

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/** Not thread-safe: use and close it on one thread, which is not the main one. */
class NpuFaceParsing(context: Context) : AutoCloseable {
    // What the NPU does not run falls to the CPU, and so does all where there is no NPU.
    private val options = CompiledModel.Options(Accelerator.NPU, Accelerator.CPU)
    private val model = CompiledModel.create(context.assets, MODEL, options)
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /** The class of each pixel, [SIDE] rows of [SIDE]; hair is [HAIR]. See [LiteRtFaceParsing.labels]. */
    fun labels(photo: Bitmap): ByteArray {
        inputs[0].writeInt8(rgb(photo, SIDE))
        model.run(inputs, outputs)
        return alignedLabels(outputs[0].readInt8(), GRID, CLASSES, SIDE)
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
    }

    companion object {
        const val MODEL = "face_parsing_int8.tflite"
        const val SIDE = 512
        /** Rows and columns of the scores. */
        const val GRID = 64
        const val CLASSES = 19
        const val HAIR = 17
    }
}

/**
 * The class of the largest score of each pixel, after a bilinear resize with the corners aligned.
 *
 * A class that has the largest score at two neighbors has it everywhere in between: the others are computed alone, in
 * whole numbers. Scale and zero point change no label.
 *
 * @param scores [grid] rows of [grid] times [classes].
 * @return [side] rows of [side].
 */
fun alignedLabels(scores: ByteArray, grid: Int, classes: Int, side: Int): ByteArray {
    val largest = ByteArray(grid * grid) { pixel -> argmax(classes) { scores[pixel * classes + it].toLong() } }
    val whole = (side - 1).toLong()
    val labels = ByteArray(side * side)
    val found = ByteArray(grid)
    for (y in 0 until side) {
        val above = minOf(y * (grid - 1) / (side - 1), grid - 2)
        val down = (y * (grid - 1) - above * (side - 1)).toLong()
        // Times `whole`, so that all are whole numbers.
        fun score(column: Int, channel: Int): Long {
            val low = scores[(above * grid + column) * classes + channel].toLong()
            val high = scores[((above + 1) * grid + column) * classes + channel].toLong()
            return low * whole + (high - low) * down
        }
        for (column in 0 until grid) {
            val label = largest[above * grid + column]
            val same = label == largest[(above + 1) * grid + column]
            found[column] = if (same) label else argmax(classes) { score(column, it) }
        }
        for (x in 0 until side) {
            val left = minOf(x * (grid - 1) / (side - 1), grid - 2)
            val right = (x * (grid - 1) - left * (side - 1)).toLong()
            labels[y * side + x] = if (found[left] == found[left + 1]) found[left] else argmax(classes) {
                val low = score(left, it)
                low * whole + (score(left + 1, it) - low) * right
            }
        }
    }
    return labels
}

/** Of equal scores the first. */
private inline fun argmax(classes: Int, score: (Int) -> Long): Byte {
    var label = 0
    var most = score(0)
    for (channel in 1 until classes) {
        val value = score(channel)
        if (value > most) {
            label = channel
            most = value
        }
    }
    return label.toByte()
}
