/**
 * Owns a target that shows whether guidance works: its end is four bytes deep, and only who keeps what reached the next
 * step gets there. By chance alone it would take four thousand million inputs.
 */
import type { Target } from "./engine.ts";

export const maze: Target = {
  seeds: () => [Buffer.from("................")],
  run: (input) => {
    if (input[3] === 0x6d)
      if (input[7] === 0x6f) if (input[2] === 0x6f) if (input[9] === 0x21) throw new Error("the end of the maze");
  },
};
