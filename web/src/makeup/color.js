// CIE Lab (D65), by the constants that OpenCV has.

const TO_XYZ = [
  [0.412453, 0.35758, 0.180423],
  [0.212671, 0.71516, 0.072169],
  [0.019334, 0.119193, 0.950227],
];
const TO_RGB = [
  [3.240479, -1.53715, -0.498535],
  [-0.969256, 1.875991, 0.041556],
  [0.055648, -0.204043, 1.057311],
];
const WHITE = [0.950456, 1, 1.088754];
// Luminances that are told apart: at the dark end, where lightness rises fastest, 0.06 units of it.
export const LUMINANCES = 2 ** 14;

const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const gamma = (value) => (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055);
const root = (value) => (value > 0.008856 ? Math.cbrt(value) : 7.787 * value + 16 / 116);
const times = (matrix, vector) => matrix.map((row) => row.reduce((sum, factor, i) => sum + factor * vector[i], 0));

/** @param {number[]} color RGB, 0..255 @returns {number[]} L 0..100, a, b */
export function toLab(color) {
  const [x, y, z] = times(TO_XYZ, color.map((value) => linear(value / 255))).map((value, i) => root(value / WHITE[i]));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** @returns {number[]} RGB, 0..255 as far as such a color can be shown. */
export function toRgb([l, a, b]) {
  const y = (l + 16) / 116;
  const cube = (value) => (value > 0.206893 ? value ** 3 : (value - 16 / 116) / 7.787);
  const xyz = [y + a / 500, y, y - b / 200].map((value, i) => WHITE[i] * cube(value));
  return times(TO_RGB, xyz).map((value) => 255 * gamma(Math.min(Math.max(value, 0), 1)));
}

// What each channel adds to the luminance, as an index of the tables below.
const SHARES = TO_XYZ[1].map((factor) =>
  Float32Array.from({ length: 256 }, (_, value) => (LUMINANCES - 1) * factor * linear(value / 255)),
);

/** The luminance of the pixel at `data[i]`, RGB, as an index of `LIGHTNESSES`. */
export function luminance(data, i) {
  return Math.round(SHARES[0][data[i]] + SHARES[1][data[i + 1]] + SHARES[2][data[i + 2]]);
}

/** Lightness, 0..100, of each luminance. */
export const LIGHTNESSES = Float32Array.from({ length: LUMINANCES }, (_, i) => 116 * root(i / (LUMINANCES - 1)) - 16);

/** @param {string} text `#rrggbb` @returns {number[]} RGB, 0..255 */
export function parseColor(text) {
  return [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));
}
