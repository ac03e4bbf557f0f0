// Face parsing on iOS with MediaPipe Tasks: of a photo, of a camera stream, and hair in another colour.
// The models are files of `port_and_export.py --target mediapipe`, see README.md.
import CoreMedia
import MediaPipeTasksVision
import UIKit

enum FaceModel {
    /// For the CPU: 8-bit kernels.
    static let cpuModel = "face_parsing_mediapipe_int8.tflite"
    /// For the GPU: weights in half precision, which is what a GPU computes in.
    static let gpuModel = "face_parsing_mediapipe_float16.tflite"
    /// Height and width that a model takes. MediaPipe resizes every picture to it.
    static let side = 512
    /// The classes in the order of the masks. Left and right are the person's.
    static let labels = [
        "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
        "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ]
    static let hair = 17
}

enum FaceParsingError: Error {
    case noModel(String)
    case otherClasses([String])
}

/// What a picture shows, row by row from the top.
struct Parsed {
    let width: Int
    let height: Int
    /// Probability of hair at each pixel, 0...1.
    let hair: [Float]
    /// Index in `FaceModel.labels` of each pixel.
    let classes: [UInt8]

    /// Copies out of MediaPipe's memory, which a stream takes back after its delegate call.
    init?(_ result: ImageSegmenterResult) {
        guard let mask = result.confidenceMasks?[FaceModel.hair], let category = result.categoryMask else { return nil }
        width = mask.width
        height = mask.height
        hair = Array(UnsafeBufferPointer(start: mask.float32Data, count: width * height))
        classes = Array(UnsafeBufferPointer(start: category.uint8Data, count: width * height))
    }

    /// The photo with its hair in another colour. The lightness of each pixel stays: strands and shine are its own.
    func recolouringHair(of photo: UIImage, to color: UIColor, strength: CGFloat = 0.8) -> UIImage {
        var red: CGFloat = 0, green: CGFloat = 0, blue: CGFloat = 0, alpha: CGFloat = 0
        color.getRed(&red, green: &green, blue: &blue, alpha: &alpha)
        var tint = Data(capacity: 4 * hair.count)
        for probability in hair {
            let share = 255 * strength * CGFloat(probability)
            // Premultiplied by alpha, the last one.
            for part in [red, green, blue, 1] { tint.append(UInt8(min(max(share * part, 0), 255))) }
        }
        guard let provider = CGDataProvider(data: tint as CFData),
            let layer = CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 32, bytesPerRow: 4 * width,
                space: CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.premultipliedLast.rawValue),
                provider: provider, decode: nil, shouldInterpolate: true, intent: .defaultIntent)
        else { return photo }
        let all = CGRect(origin: .zero, size: photo.size)
        return UIGraphicsImageRenderer(size: photo.size, format: photo.imageRendererFormat).image { _ in
            photo.draw(in: all)
            UIImage(cgImage: layer).draw(in: all, blendMode: .color, alpha: 1)
        }
    }
}

/// Photos, one after another. Use it on one background queue; its memory goes with it.
final class PhotoParser {
    private let segmenter: ImageSegmenter

    init(gpu: Bool = false) throws {
        segmenter = try makeSegmenter(try makeOptions(gpu: gpu, mode: .image))
    }

    /// Takes as long as the network runs: not for the main queue.
    func parse(_ photo: UIImage) throws -> Parsed? {
        // There is a mask of floats for each class: at the size of a 12-megapixel photo they would take 900 MB, so
        // take 20. Drawing also turns the photo upright.
        let format = UIGraphicsImageRendererFormat()
        format.scale = 1
        format.preferredRange = .standard
        let square = CGRect(x: 0, y: 0, width: FaceModel.side, height: FaceModel.side)
        let small = UIGraphicsImageRenderer(size: square.size, format: format).image { _ in photo.draw(in: square) }
        return Parsed(try segmenter.segment(image: try MPImage(uiImage: small)))
    }
}

/// A camera stream. Frames that come while the network runs are dropped by MediaPipe.
final class CameraParser: NSObject, ImageSegmenterLiveStreamDelegate {
    private var segmenter: ImageSegmenter?
    private let onParsed: (Result<Parsed, Error>) -> Void

    /// `onParsed` is called on a queue of MediaPipe: go to the main queue before you show anything.
    init(gpu: Bool = true, onParsed: @escaping (Result<Parsed, Error>) -> Void) throws {
        self.onParsed = onParsed
        super.init()
        let options = try makeOptions(gpu: gpu, mode: .liveStream)
        options.imageSegmenterLiveStreamDelegate = self
        segmenter = try makeSegmenter(options)
    }

    /// Call it in `captureOutput(_:didOutput:from:)`. The session preset is to be `.vga640x480`, for the masks are as
    /// large as a frame; and `videoSettings` is to ask for `kCVPixelFormatType_32BGRA`.
    func parse(_ frame: CMSampleBuffer, orientation: UIImage.Orientation = .up) throws {
        let seconds = CMTimeGetSeconds(CMSampleBufferGetPresentationTimeStamp(frame))
        let image = try MPImage(sampleBuffer: frame, orientation: orientation)
        try segmenter?.segmentAsync(image: image, timestampInMilliseconds: Int(1000 * seconds))
    }

    func imageSegmenter(
        _ imageSegmenter: ImageSegmenter, didFinishSegmentation result: ImageSegmenterResult?,
        timestampInMilliseconds: Int, error: Error?
    ) {
        if let error { return onParsed(.failure(error)) }
        if let parsed = result.flatMap(Parsed.init) { onParsed(.success(parsed)) }
    }
}

private func makeOptions(gpu: Bool, mode: RunningMode) throws -> ImageSegmenterOptions {
    let name = gpu ? FaceModel.gpuModel : FaceModel.cpuModel
    guard let path = Bundle.main.path(forResource: name, ofType: nil) else { throw FaceParsingError.noModel(name) }
    let options = ImageSegmenterOptions()
    options.baseOptions.modelAssetPath = path
    options.baseOptions.delegate = gpu ? .GPU : .CPU
    options.runningMode = mode
    options.shouldOutputConfidenceMasks = true
    options.shouldOutputCategoryMask = true
    return options
}

private func makeSegmenter(_ options: ImageSegmenterOptions) throws -> ImageSegmenter {
    let segmenter = try ImageSegmenter(options: options)
    guard segmenter.labels == FaceModel.labels else { throw FaceParsingError.otherClasses(segmenter.labels) }
    return segmenter
}
