// The frame that says which part of a photo the network gets: a square that can be dragged, and resized at its corners.
// With the keyboard: the arrows move it, + and - resize it.

// Least side, in pixels of the photo; and how close to a corner a press is meant for it, in pixels of the screen.
const LEAST = 32;
const CORNER = 28;
// One press of a key, as a share of the photo's shorter side.
const STEP = 0.02;
// A frame begins with this share of the photo's shorter side.
const FIRST = 0.6;

/** @typedef {{ left: number, top: number, width: number, height: number }} Place in pixels of the photo. */

/** The whole of a photo. @returns {Place} */
export function whole({ width, height }) {
  return { left: 0, top: 0, width, height };
}

/**
 * Lays an element over a part of the photo, whatever size that is shown in.
 *
 * @param {HTMLElement} element
 * @param {Place} place
 * @param {{ width: number, height: number }} photo
 */
export function lay(element, place, photo) {
  const percent = (part, all) => `${(100 * part) / all}%`;
  element.style.left = percent(place.left, photo.width);
  element.style.top = percent(place.top, photo.height);
  element.style.width = percent(place.width, photo.width);
  element.style.height = percent(place.height, photo.height);
}

/**
 * @param {HTMLButtonElement} button the frame.
 * @param {(place: Place) => void} changed called when it has been let go.
 * @returns {{ show: (photo: { width: number, height: number }) => Place, hide: () => void }}
 */
export function createFrame(button, changed) {
  let photo;
  let place;
  let pressed = null;

  function set(left, top, side) {
    const size = Math.round(Math.min(Math.max(side, LEAST), photo.width, photo.height));
    place = {
      left: Math.round(Math.min(Math.max(left, 0), photo.width - size)),
      top: Math.round(Math.min(Math.max(top, 0), photo.height - size)),
      width: size,
      height: size,
    };
    lay(button, place, photo);
  }

  function press(event) {
    const { left, top, width, height } = button.getBoundingClientRect();
    const side = (at, start, length) => (at - start < CORNER ? -1 : at - start > length - CORNER ? 1 : 0);
    const corner = [side(event.clientX, left, width), side(event.clientY, top, height)];
    pressed = { x: event.clientX, y: event.clientY, place, corner: corner.every(Boolean) ? corner : null };
    button.setPointerCapture(event.pointerId);
  }

  function drag({ clientX, clientY }) {
    if (!pressed) return;
    const scale = photo.width / button.parentElement.clientWidth;
    const [x, y] = [(clientX - pressed.x) * scale, (clientY - pressed.y) * scale];
    const { left, top, width } = pressed.place;
    if (!pressed.corner) return set(left + x, top + y, width);
    // The opposite corner stays where it is, and the square in the photo.
    const [right, down] = pressed.corner;
    const room = [right > 0 ? photo.width - left : left + width, down > 0 ? photo.height - top : top + width];
    const side = Math.max(Math.min(width + (right * x + down * y) / 2, ...room), LEAST);
    set(right > 0 ? left : left + width - side, down > 0 ? top : top + width - side, side);
  }

  function release() {
    const before = pressed;
    pressed = null;
    if (before && before.place !== place) changed(place);
  }

  function key(event) {
    const step = Math.max(STEP * Math.min(photo.width, photo.height), 1);
    const { left, top, width } = place;
    const moves = {
      ArrowLeft: [left - step, top, width],
      ArrowRight: [left + step, top, width],
      ArrowUp: [left, top - step, width],
      ArrowDown: [left, top + step, width],
      "+": [left - step / 2, top - step / 2, width + step],
      "-": [left + step / 2, top + step / 2, width - step],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    set(...moves[event.key]);
    changed(place);
  }

  button.addEventListener("pointerdown", press);
  button.addEventListener("pointermove", drag);
  button.addEventListener("pointerup", release);
  button.addEventListener("pointercancel", release);
  button.addEventListener("keydown", key);

  return {
    show(of) {
      photo = of;
      const side = FIRST * Math.min(photo.width, photo.height);
      set((photo.width - side) / 2, (photo.height - side) / 2, side);
      button.hidden = false;
      return place;
    },
    hide() {
      button.hidden = true;
    },
  };
}
