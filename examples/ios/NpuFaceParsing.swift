// Face parsing on iOS with a file of whole numbers alone: a photo in, the class of each pixel out.
// The model is a file of `port_and_export.py --target npu`, which returns int8 scores, see README.md.
import TensorFlowLite
import UIKit

/// Not thread-safe: use it on one queue, which is not the main one. Its memory goes with it.
final class NpuFaceParsing {
    static let model = "face_parsing_int8.tflite"
    static let side = 512
    /// Rows and columns of the scores.
    static let grid = 64
    static let classes = 19
    static let hair: UInt8 = 17

    private let interpreter: Interpreter

    init(threads: Int = 2) throws {
        interpreter = try LiteRtFaceParsing.interpreter(of: Self.model, threads: threads)
    }

    /// The class of each pixel, `side` rows of `side`. The photo is squeezed to a square.
    func labels(of photo: UIImage) throws -> [UInt8] {
        try interpreter.copy(LiteRtFaceParsing.rgb(of: photo, side: Self.side), toInputAt: 0)
        try interpreter.invoke()
        let scores = try interpreter.output(at: 0).data.map { Int8(bitPattern: $0) }
        return alignedLabels(scores, grid: Self.grid, classes: Self.classes, side: Self.side)
    }
}

/// The class of the largest score of each pixel, after a bilinear resize with the corners aligned.
///
/// A class that has the largest score at two neighbors has it everywhere in between: the others are computed alone, in
/// whole numbers. Scale and zero point change no label.
///
/// - Parameter scores: `grid` rows of `grid` times `classes`.
/// - Returns: `side` rows of `side`.
func alignedLabels(_ scores: [Int8], grid: Int, classes: Int, side: Int) -> [UInt8] {
    let largest = (0..<grid * grid).map { pixel in argmax(classes) { Int(scores[pixel * classes + $0]) } }
    let whole = side - 1
    var labels = [UInt8](repeating: 0, count: side * side)
    var found = [UInt8](repeating: 0, count: grid)
    for y in 0..<side {
        let above = min(y * (grid - 1) / whole, grid - 2)
        let down = y * (grid - 1) - above * whole
        // Times `whole`, so that all are whole numbers.
        func score(_ column: Int, _ channel: Int) -> Int {
            let low = Int(scores[(above * grid + column) * classes + channel])
            let high = Int(scores[((above + 1) * grid + column) * classes + channel])
            return low * whole + (high - low) * down
        }
        for column in 0..<grid {
            let label = largest[above * grid + column]
            let same = label == largest[(above + 1) * grid + column]
            found[column] = same ? label : argmax(classes) { score(column, $0) }
        }
        for x in 0..<side {
            let left = min(x * (grid - 1) / whole, grid - 2)
            let right = x * (grid - 1) - left * whole
            if found[left] == found[left + 1] {
                labels[y * side + x] = found[left]
            } else {
                labels[y * side + x] = argmax(classes) { channel in
                    let low = score(left, channel)
                    return low * whole + (score(left + 1, channel) - low) * right
                }
            }
        }
    }
    return labels
}

/// Of equal scores the first.
private func argmax(_ classes: Int, _ score: (Int) -> Int) -> UInt8 {
    var label = 0
    var most = score(0)
    for channel in 1..<classes {
        let value = score(channel)
        if value > most {
            label = channel
            most = value
        }
    }
    return UInt8(label)
}
