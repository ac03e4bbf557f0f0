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
  const largest = Uint8Array.from({ length: rows * columns }, (_, pixel) =>
    argmax(classes, (channel) => scores[pixel * classes + channel]),
  );
  const starts = Array.from({ length: columns }, (_, column) => Math.ceil((column * (width - 1)) / (columns - 1)));
  starts[columns - 1] = width;
  const across = Math.max(width - 1, 1);
  const labels = new Uint8Array(height * width);
  const found = new Uint8Array(columns);
  for (let y = 0; y < height; y++) {
    const [above, down, wholeDown] = between(y, rows, height);
    const top = above * columns;
    // Times wholeDown, so that all are whole numbers.
    const score = (column, channel) => {
      const low = scores[(top + column) * classes + channel];
      return low * wholeDown + (scores[(top + columns + column) * classes + channel] - low) * down;
    };
    for (let column = 0; column < columns; column++) {
      const [label, other] = [largest[top + column], largest[top + columns + column]];
      found[column] = label === other ? label : argmax(classes, (channel) => score(column, channel));
    }
    for (let column = 0; column < columns - 1; column++) {
      const [from, to] = [y * width + starts[column], y * width + starts[column + 1]];
      if (found[column] === found[column + 1]) {
        labels.fill(found[column], from, to);
        continue;
      }
      for (let i = from; i < to; i++) {
        const right = (i - y * width) * (columns - 1) - column * across;
        labels[i] = argmax(classes, (channel) => {
          const low = score(column, channel);
          return low * across + (score(column + 1, channel) - low) * right;
        });
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

function argmax(classes, score) {
  let [label, most] = [0, score(0)];
  for (let channel = 1; channel < classes; channel++) {
    const value = score(channel);
    if (value > most) [label, most] = [channel, value];
  }
  return label;
}
