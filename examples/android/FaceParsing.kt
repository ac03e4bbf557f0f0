// Face parsing on Android with MediaPipe Tasks: of a photo, of a camera stream, and hair in another colour.
// The models are files of `port_and_export.py --target mediapipe`, see README.md.
package com.example.faceparsing

import android.content.Context
import android.graphics.Bitmap
import android.graphics.BlendMode
import android.graphics.Canvas
import android.graphics.Matrix
import android.graphics.Paint
import android.graphics.Rect
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import com.google.mediapipe.framework.image.BitmapExtractor
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.framework.image.ByteBufferExtractor
import com.google.mediapipe.framework.image.MPImage
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.core.Delegate
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter.ImageSegmenterOptions
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter.SegmentationOptions
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenterResult
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.roundToInt

/** For the CPU: 8-bit kernels. */
const val CPU_MODEL = "face_parsing_mediapipe_int8.tflite"

/** For the GPU: weights in half precision, which is what a GPU computes in. */
const val GPU_MODEL = "face_parsing_mediapipe_float16.tflite"

/** Height and width that a model takes. MediaPipe resizes every picture to it. */
const val SIDE = 512

/** The classes in the order of the masks. Left and right are the person's. */
val LABELS = listOf(
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
    "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)
val HAIR = LABELS.indexOf("hair")

/**
 * What a picture shows, row by row from the top.
 *
 * @property hair probability of hair at each pixel, 0..1.
 * @property classes index in [LABELS] of each pixel.
 */
class Parsed(val width: Int, val height: Int, val hair: FloatArray, val classes: ByteArray)

// There is a mask of floats for each class: at the size of a 12-megapixel photo they would take 900 MB, so take 20.
private val MASKS = SegmentationOptions.builder().setOutputWidth(SIDE).setOutputHeight(SIDE).build()

/** Photos, one after another. With [gpu], make, use and close it on one and the same thread. */
class PhotoParser(context: Context, gpu: Boolean = false) : AutoCloseable {
    private val segmenter = segmenter(context, gpu) { setRunningMode(RunningMode.IMAGE) }

    /** Takes as long as the network runs: not for the main thread. The photo has to be upright. */
    fun parse(photo: Bitmap): Parsed? {
        // MediaPipe reads this kind of bitmap alone.
        val pixels = if (photo.config == Bitmap.Config.ARGB_8888) photo else photo.copy(Bitmap.Config.ARGB_8888, false)
        return segmenter.segment(BitmapImageBuilder(pixels).build(), MASKS).copied()
    }

    override fun close() = segmenter.close()
}

/**
 * A camera stream: `ImageAnalysis.setAnalyzer(executor, cameraParser)`, where the executor has one thread.
 *
 * Frames that come while the network runs are dropped by MediaPipe. Make it, and close it after `clearAnalyzer()`, on
 * the thread of that executor. [onParsed] gets the upright frame; it and [onError] are called on a thread of MediaPipe.
 */
class CameraParser(
    context: Context,
    gpu: Boolean = true,
    onParsed: (Bitmap, Parsed) -> Unit,
    onError: (RuntimeException) -> Unit,
) : ImageAnalysis.Analyzer, AutoCloseable {
    private val segmenter = segmenter(context, gpu) {
        setRunningMode(RunningMode.LIVE_STREAM)
        setResultListener { result, frame -> result.copied()?.let { onParsed(BitmapExtractor.extract(frame), it) } }
        setErrorListener { error -> onError(error) }
    }

    override fun analyze(image: ImageProxy) = image.use {
        val rotation = Matrix().apply { postRotate(it.imageInfo.rotationDegrees.toFloat()) }
        val frame = it.toBitmap()
        val upright = Bitmap.createBitmap(frame, 0, 0, frame.width, frame.height, rotation, true)
        segmenter.segmentAsync(BitmapImageBuilder(upright).build(), MASKS, it.imageInfo.timestamp / 1_000_000)
    }

    override fun close() = segmenter.close()
}

/** The photo with its hair in another colour. The lightness of each pixel stays: strands and shine are its own. */
fun recolourHair(photo: Bitmap, parsed: Parsed, color: Int, strength: Float = 0.8f): Bitmap {
    val rgb = color and 0xFFFFFF
    val tint = IntArray(parsed.hair.size) { ((255 * strength * parsed.hair[it]).roundToInt() shl 24) or rgb }
    val layer = Bitmap.createBitmap(tint, parsed.width, parsed.height, Bitmap.Config.ARGB_8888)
    val result = photo.copy(Bitmap.Config.ARGB_8888, true)
    val paint = Paint(Paint.FILTER_BITMAP_FLAG).apply { blendMode = BlendMode.COLOR }
    Canvas(result).drawBitmap(layer, null, Rect(0, 0, result.width, result.height), paint)
    return result
}

private fun segmenter(context: Context, gpu: Boolean, more: ImageSegmenterOptions.Builder.() -> Unit): ImageSegmenter {
    val base = BaseOptions.builder()
        .setModelAssetPath(if (gpu) GPU_MODEL else CPU_MODEL)
        .setDelegate(if (gpu) Delegate.GPU else Delegate.CPU)
        .build()
    val options = ImageSegmenterOptions.builder()
        .setBaseOptions(base)
        .setOutputConfidenceMasks(true)
        .setOutputCategoryMask(true)
        .apply(more)
        .build()
    val segmenter = ImageSegmenter.createFromOptions(context, options)
    check(segmenter.labels == LABELS) { "the model has the classes ${segmenter.labels}; expected $LABELS" }
    return segmenter
}

/** Copies out of MediaPipe's memory, which a stream takes back after its listener. Null for a dropped frame. */
private fun ImageSegmenterResult.copied(): Parsed? {
    val hair = confidenceMasks().orElse(null)?.get(HAIR) ?: return null
    val classes = categoryMask().orElse(null) ?: return null
    val size = hair.width * hair.height
    return Parsed(
        hair.width,
        hair.height,
        FloatArray(size).also { bytes(hair).asFloatBuffer().get(it) },
        ByteArray(size).also { bytes(classes).get(it) },
    )
}

private fun bytes(mask: MPImage): ByteBuffer =
    ByteBufferExtractor.extract(mask).order(ByteOrder.nativeOrder()).apply { rewind() }
