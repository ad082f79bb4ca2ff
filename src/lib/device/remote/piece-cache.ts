/**
 * Owns which pieces of an export are in which slots of the shared memory. The piece that was not used for longest makes
 * room; one that is on its way cannot.
 */
import { PIECE_BYTES, PIECE_COUNT, type SharedMemory, Slot } from "./shared-memory.ts";

export class PieceCache {
  readonly #memory: SharedMemory;
  /** Slot of each piece, by the piece's number; used last is last. */
  readonly #slots = new Map<number, number>();
  readonly #free = Array.from({ length: PIECE_COUNT }, (_, slot) => slot);

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  has(piece: number): boolean {
    return this.#slots.has(piece);
  }

  /** The slot of a piece, which counts as used now. */
  find(piece: number): number | undefined {
    const slot = this.#slots.get(piece);
    if (slot === undefined) return undefined;
    this.#slots.delete(piece);
    this.#slots.set(piece, slot);
    return slot;
  }

  /** A slot for a piece that has none, its offset laid out; undefined if every slot is on its way. */
  claim(piece: number): number | undefined {
    const slot = this.#free.pop() ?? this.#evict();
    if (slot === undefined) return undefined;
    this.#slots.set(piece, slot);
    this.#memory.offsets[slot] = piece * PIECE_BYTES;
    return slot;
  }

  /** Gives up a piece, which must not be on its way. */
  forget(piece: number): void {
    const slot = this.#slots.get(piece);
    if (slot === undefined) return;
    this.#slots.delete(piece);
    this.#free.push(slot);
  }

  #evict(): number | undefined {
    for (const [piece, slot] of this.#slots) {
      if (Atomics.load(this.#memory.states, slot) === Slot.PENDING) continue;
      this.#slots.delete(piece);
      return slot;
    }
    return undefined;
  }
}
