// Face parsing on iOS with LiteRT alone, without MediaPipe: a photo in, the class of each pixel out.
// Its Swift library still has the name TensorFlow Lite.
// The model is a file of `port_and_export.py` (--target litert, its default), see README.md.
import TensorFlowLite
import UIKit

/// Not thread-safe: use it on one queue, which is not the main one. Its memory goes with it.
final class LiteRtFaceParsing {
    static let model = "face_parsing_int8.tflite"
    static let side = 512
    static let hair: UInt8 = 17

    private let interpreter: Interpreter

    init(threads: Int = 2) throws {
        interpreter = try Self.interpreter(of: Self.model, threads: threads)
    }

    /// A model of the app's bundle, ready to run.
    static func interpreter(of model: String, threads: Int) throws -> Interpreter {
        guard let path = Bundle.main.path(forResource: model, ofType: nil) else { throw CocoaError(.fileNoSuchFile) }
        var options = Interpreter.Options()
        options.threadCount = threads
        options.isXNNPackEnabled = true
        let interpreter = try Interpreter(modelPath: path, options: options)
        try interpreter.allocateTensors()
        return interpreter
    }

    /// The class of each pixel, `side` rows of `side`. The photo is squeezed to a square.
    func labels(of photo: UIImage) throws -> [UInt8] {
        // The model has one input, `image`, and one output, `labels`: their places are known without their names.
        try interpreter.copy(Self.rgb(of: photo, side: Self.side), toInputAt: 0)
        try interpreter.invoke()
        return [UInt8](try interpreter.output(at: 0).data)
    }

    /// The pixels that the model takes: `side` rows of `side` times red, green and blue.
    static func rgb(of photo: UIImage, side: Int) throws -> Data {
        let format = UIGraphicsImageRendererFormat()
        format.scale = 1
        format.preferredRange = .standard
        let square = CGRect(x: 0, y: 0, width: side, height: side)
        // Drawing turns the photo upright.
        let small = UIGraphicsImageRenderer(size: square.size, format: format).image { _ in photo.draw(in: square) }
        var rgba = [UInt8](repeating: 0, count: 4 * side * side)
        let drawn = rgba.withUnsafeMutableBytes { bytes -> Bool in
            guard let image = small.cgImage,
                let context = CGContext(
                    data: bytes.baseAddress, width: side, height: side, bitsPerComponent: 8, bytesPerRow: 4 * side,
                    space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.draw(image, in: square)
            return true
        }
        guard drawn else { throw CocoaError(.fileReadCorruptFile) }
        var rgb = Data(capacity: 3 * side * side)
        for pixel in stride(from: 0, to: rgba.count, by: 4) { rgb.append(contentsOf: rgba[pixel..<pixel + 3]) }
        return rgb
    }
}
