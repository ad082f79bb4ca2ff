/**
 * Owns which pieces of an export are in which slots of the shared memory. The least recently used piece is replaced;
 * one that is under way cannot be.
 */
import { PIECE_BYTES, PIECE_COUNT, type SharedMemory, Slot } from "./shared-memory.ts";

export class PieceCache {
  readonly #memory: SharedMemory;
  /** Slot of each piece, by the piece's number; most recently used last. */
  readonly #slots = new Map<number, number>();
  readonly #free = Array.from({ length: PIECE_COUNT }, (_, slot) => slot);

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  has(piece: number): boolean {
    return this.#slots.has(piece);
  }

  /** The slot of a piece, which becomes the most recently used. */
  find(piece: number): number | undefined {
    const slot = this.#slots.get(piece);
    if (slot === undefined) return undefined;
    this.#slots.delete(piece);
    this.#slots.set(piece, slot);
    return slot;
  }

  /** A slot for a piece that has none, with its offset set; undefined if every slot is under way. */
  claim(piece: number): number | undefined {
    const slot = this.#free.pop() ?? this.#evict();
    if (slot === undefined) return undefined;
    this.#slots.set(piece, slot);
    this.#memory.offsets[slot] = piece * PIECE_BYTES;
    return slot;
  }

  /** Drops a piece, which must not be under way. */
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
