// Labels of the scores that a file exported with `--output scores` or `--target npu` returns.

/**
 * The class of the largest score of each pixel, after a bilinear resize with the corners aligned: as `aligned_labels` of
 * keras_bisenet/utils/resizing.py, and of integer scores exact.
 *
 * A class that has the largest score at two neighbors has it everywhere in between: the others are computed alone.
 *
 * @param {Int8Array | Float32Array} scores `[height, width, classes]`, integers as they are.
 * @param {number[]} shape `[height, width, classes]` of them, both sides at least 2.
 * @param {number} height of the photo.
 * @param {number} width
 * @returns {Uint8Array} `[height, width]`, of equal scores the first class.
 */
export function alignedLabels(scores, [rows, columns, classes], height, width) {
  const largest = Uint8Array.from({ length: rows * columns }, (_, pixel) => argmax(scores, pixel * classes, classes));
  const starts = Array.from({ length: columns }, (_, column) => Math.ceil((column * (width - 1)) / (columns - 1)));
  starts[columns - 1] = width;
  const across = Math.max(width - 1, 1);
  const labels = new Uint8Array(height * width);
  // Of a row of pixels, below each column of scores: the scores, times `wholeDown` so that integers stay whole, and the
  // class of the largest.
  const line = new Float64Array(columns * classes);
  const found = new Uint8Array(columns);
  const pixel = new Float64Array(classes);
  for (let y = 0; y < height; y++) {
    const [above, down, wholeDown] = between(y, rows, height);
    const top = above * columns;
    for (let i = 0; i < line.length; i++) {
      const low = scores[top * classes + i];
      line[i] = low * wholeDown + (scores[(top + columns) * classes + i] - low) * down;
    }
    for (let column = 0; column < columns; column++) {
      const [label, other] = [largest[top + column], largest[top + columns + column]];
      found[column] = label === other ? label : argmax(line, column * classes, classes);
    }
    for (let column = 0; column < columns - 1; column++) {
      const [from, to] = [starts[column], starts[column + 1]];
      if (found[column] === found[column + 1]) {
        labels.fill(found[column], y * width + from, y * width + to);
        continue;
      }
      for (let x = from; x < to; x++) {
        const right = x * (columns - 1) - column * across;
        for (let channel = 0; channel < classes; channel++) {
          const low = line[column * classes + channel];
          pixel[channel] = low * across + (line[(column + 1) * classes + channel] - low) * right;
        }
        labels[y * width + x] = argmax(pixel, 0, classes);
      }
    }
  }
  return labels;
}

// The last row but one that lies before a pixel, and how far on it is, in parts of a whole.
function between(pixel, rows, height) {
  const whole = Math.max(height - 1, 1);
  const above = Math.min(Math.floor((pixel * (rows - 1)) / whole), rows - 2);
  return [above, pixel * (rows - 1) - above * whole, whole];
}

// The first class of the largest of the scores that begin at a place.
function argmax(scores, start, classes) {
  let label = 0;
  for (let channel = 1; channel < classes; channel++) {
    if (scores[start + channel] > scores[start + label]) label = channel;
  }
  return label;
}
