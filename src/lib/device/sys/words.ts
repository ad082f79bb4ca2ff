/**
 * Owns 64-bit numbers in structures that the kernel reads, as halves in an array of words.
 */

/** Only then the halves are in the order of the array. */
export const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Sets a number of at most 53 bits. */
export function put64(words: Uint32Array | Int32Array, at: number, value: number): void {
  words[at] = value % 2 ** 32;
  words[at + 1] = Math.floor(value / 2 ** 32);
}
