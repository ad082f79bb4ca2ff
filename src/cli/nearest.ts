/**
 * Owns "did you mean": which of the known words are close to one that was typed.
 */

/** The least number of edits that make one word the other; two neighbours changing places count as one. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwap ? (before[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swapped));
    }
    [before, row] = [row, next];
  }
  return row.at(-1) ?? 0;
}

/** The closest of `known`, if any are within two edits (one in short words), or begin with what was typed. */
export function nearest(word: string, known: Iterable<string>): string[] {
  const bare = word.toLowerCase();
  const most = bare.length < 4 ? 1 : 2;
  const found = [...new Set(known)].map((id) => ({ id, far: editDistance(id, bare) }));
  const least = Math.min(most, ...found.map(({ far }) => far));
  const close = found.filter(({ far }) => far <= least);
  const begun = bare.length > 2 ? found.filter(({ id }) => id.startsWith(bare)) : [];
  return (close.length > 0 ? close : begun).map(({ id }) => id).slice(0, 3);
}
