// Face parsing on Android with LiteRT alone, without MediaPipe: a photo in, the class of each pixel out.
// The models are files of `port_and_export.py` (--target litert, its default), see README.md.
package com.example.faceparsing

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/** Not thread-safe: use and close it on one thread, which is not the main one. */
class LiteRtFaceParsing(context: Context, gpu: Boolean = false) : AutoCloseable {
    // With a GPU, what it cannot run falls to the CPU.
    private val options =
        if (gpu) CompiledModel.Options(Accelerator.GPU, Accelerator.CPU) else CompiledModel.Options(Accelerator.CPU)
    private val model = CompiledModel.create(context.assets, if (gpu) GPU_MODEL else CPU_MODEL, options)
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /**
     * The class of each pixel, [SIDE] rows of [SIDE]; hair is [HAIR].
     *
     * The photo has to be upright. It is squeezed to a square: shrink a large one to about this size before, with
     * antialiasing.
     */
    fun labels(photo: Bitmap): ByteArray {
        // The model has one input, `image`, and one output, `labels`: their places are known without their names.
        // Both are uint8, which Kotlin's buffers call Int8: the bytes are the same.
        inputs[0].writeInt8(rgb(photo, SIDE))
        model.run(inputs, outputs)
        return outputs[0].readInt8()
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
    }

    companion object {
        const val CPU_MODEL = "face_parsing_int8.tflite"
        const val GPU_MODEL = "face_parsing_float16.tflite"
        const val SIDE = 512
        const val HAIR = 17
    }
}

/** The pixels that a model takes: [side] rows of [side] times red, green and blue. */
internal fun rgb(photo: Bitmap, side: Int): ByteArray {
    val pixels = IntArray(side * side)
    Bitmap.createScaledBitmap(photo, side, side, true).getPixels(pixels, 0, side, 0, 0, side, side)
    val rgb = ByteArray(3 * pixels.size)
    pixels.forEachIndexed { index, pixel ->
        rgb[3 * index] = (pixel shr 16).toByte()
        rgb[3 * index + 1] = (pixel shr 8).toByte()
        rgb[3 * index + 2] = pixel.toByte()
    }
    return rgb
}
