/**
 * The API's answers, as far as this page reads them; all of it: GET /docs.
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Box  Pixels of the image.
 *
 * @typedef {Object} Face
 * @property {Box} box
 * @property {number | null} [face_confidence]
 * @property {string} dominant_emotion
 * @property {number} confidence
 * @property {Record<string, number>} emotions  Probabilities; they sum to 1.
 * @property {string[]} warnings
 * @property {number} [track]  In a stream: the same number is the same face.
 * @property {Record<string, number>} [emotions_smoothed]  In a stream.
 *
 * @typedef {Object} Answer
 * @property {string} [request_id]  Of the service's answers.
 * @property {{name: string, version?: string, sha256?: string}} model
 * @property {{width: number, height: number}} image
 * @property {Face[]} faces  Largest first.
 * @property {{decode: number, detect: number, queue: number, inference: number, total: number}} timing_ms
 * @property {number} [frame]  In a stream: its number, from 1.
 * @property {number} [dropped]  In a stream: frames up to now that were not answered.
 *
 * @typedef {Object} Problem  RFC 9457.
 * @property {string} title
 * @property {string} detail
 * @property {number} [status]
 * @property {string} [code]
 * @property {string} [request_id]
 * @property {number} [retryAfter]  Seconds; from the header or the stream.
 *
 * @typedef {Object} ModelCard
 * @property {string} name
 * @property {string} version
 * @property {string} sha256
 * @property {number} low_confidence_threshold
 * @property {string} description
 * @property {string[]} labels
 * @property {Record<string, {n: number, accuracy: number}>} metrics
 *
 * @typedef {{default: string, models: ModelCard[]}} ModelList
 */

export {};
