/**
 * Pixels as the service makes them. Its Pillow is mirrored to the bit, because the networks see
 * every difference: the filters, their weights as whole numbers, and bytes between both passes.
 *
 * @typedef {{data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels: number}} Pixels
 *   Rows of pixels, channels side by side.
 *
 * @typedef {Object} Filter
 * @property {number} support  Pixels from the middle to where its weight ends.
 * @property {(x: number) => number} weight
 */

/** Bits behind the point of a weight, as in Pillow's Resample.c. */
const PRECISION = 22;

/** @type {Filter} */
export const BILINEAR = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };

/** @type {Filter} */
export const LANCZOS = {
  support: 3,
  weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0),
};

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/**
 * Rounds as Python does, halves to even.
 *
 * @param {number} value
 */
export function rint(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/**
 * Cuts a rectangle of whole pixels out.
 *
 * @param {Pixels} image
 * @param {number} left
 * @param {number} top
 * @param {number} right
 * @param {number} bottom
 * @returns {Pixels}
 */
export function cut({ data, width, channels }, left, top, right, bottom) {
  const row = (right - left) * channels;
  const part = new Uint8Array(row * (bottom - top));
  for (let y = top; y < bottom; y += 1) {
    const begin = (y * width + left) * channels;
    part.set(data.subarray(begin, begin + row), (y - top) * row);
  }
  return { data: part, width: right - left, height: bottom - top, channels };
}

/**
 * Turns colours into grey, the luma of ITU-R BT.601.
 *
 * @param {Pixels} image
 * @returns {Pixels}
 */
export function grey({ data, width, height, channels }) {
  const luma = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < luma.length; i += 1, at += channels) {
    luma[i] = (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
  }
  return { data: luma, width, height, channels: 1 };
}

/**
 * Shrinks by a whole number: each pixel is the mean of a square.
 *
 * @param {Pixels} image
 * @param {number} across
 * @param {number} down
 * @returns {Pixels}
 */
export function reduce(image, across, down) {
  const { data, channels } = image;
  const width = Math.ceil(image.width / across);
  const height = Math.ceil(image.height / down);
  const means = new Uint8Array(width * height * channels);
  let at = 0;
  for (let y = 0; y < height; y += 1) {
    const bottom = Math.min(image.height, (y + 1) * down);
    for (let x = 0; x < width; x += 1) {
      const right = Math.min(image.width, (x + 1) * across);
      const count = (bottom - y * down) * (right - x * across);
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = count >> 1;
        for (let row = y * down; row < bottom; row += 1) {
          for (let column = x * across; column < right; column += 1) {
            sum += data[(row * image.width + column) * channels + channel];
          }
        }
        means[at] = Math.floor(sum / count);
        at += 1;
      }
    }
  }
  return { data: means, width, height, channels };
}

/**
 * Puts images of one width below each other.
 *
 * @param {Pixels[]} images
 * @returns {Pixels}
 */
export function stacked(images) {
  const { width, channels } = images[0];
  const height = images.reduce((sum, image) => sum + image.height, 0);
  const data = new Uint8Array(width * height * channels);
  let at = 0;
  for (const image of images) {
    data.set(image.data, at);
    at += image.data.length;
  }
  return { data, width, height, channels };
}

/**
 * Resamples a rectangle of an image.
 *
 * @param {Pixels} image
 * @param {number} width
 * @param {number} height
 * @param {Filter} filter
 * @param {[number, number, number, number]} box Left, top, right, bottom in pixels, with fractions.
 * @returns {Pixels}
 */
export function resample(image, width, height, filter, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box;
  const rows = acrossPass(image, left, right, width, filter);
  return acrossPass(rows, top, bottom, height, filter, true);
}

/**
 * @param {Pixels} image
 * @param {number} start
 * @param {number} end
 * @param {number} size Pixels to make of what is between.
 * @param {Filter} filter
 * @param {boolean} [isDown] Along columns rather than rows.
 * @returns {Pixels}
 */
function acrossPass(image, start, end, size, filter, isDown = false) {
  const { data, channels } = image;
  const length = isDown ? image.height : image.width;
  if (start === 0 && end === length && size === length) return image;
  const width = isDown ? image.width : size;
  const height = isDown ? size : image.height;
  const lines = isDown ? image.width : image.height;
  const [step, nextLine] = isDown
    ? [image.width * channels, channels]
    : [channels, image.width * channels];
  const [outStep, outNextLine] = isDown ? [width * channels, channels] : [channels, width * channels];
  const out = new Uint8ClampedArray(width * height * channels);
  for (let place = 0; place < size; place += 1) {
    const { first, weights } = weightsAt(place, start, (end - start) / size, length, filter);
    for (let line = 0; line < lines; line += 1) {
      const from = first * step + line * nextLine;
      const to = place * outStep + line * outNextLine;
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 1 << (PRECISION - 1);
        for (let i = 0, at = from + channel; i < weights.length; i += 1, at += step) {
          sum += data[at] * weights[i];
        }
        out[to + channel] = sum >> PRECISION;
      }
    }
  }
  return { data: out, width, height, channels };
}

/**
 * @param {number} place
 * @param {number} start
 * @param {number} scale Pixels of the image to one that is made.
 * @param {number} length
 * @param {Filter} filter
 */
function weightsAt(place, start, scale, length, filter) {
  const stretch = Math.max(1, scale);
  const reach = filter.support * stretch;
  const centre = start + (place + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - reach + 0.5));
  const last = Math.min(length, Math.trunc(centre + reach + 0.5));
  const shares = [];
  for (let x = first; x < last; x += 1) shares.push(filter.weight((x - centre + 0.5) / stretch));
  const sum = shares.reduce((total, share) => total + share, 0);
  const weights = Int32Array.from(shares, (share) => {
    const scaled = (share / sum) * (1 << PRECISION);
    return Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  });
  return { first, weights };
}
