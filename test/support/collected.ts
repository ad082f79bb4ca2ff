/**
 * Owns reading to its end what is made while it is read.
 */

/** All items of something that may be absent. */
export async function collected<Item>(items: Iterable<Item> | AsyncIterable<Item> | undefined): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items ?? []) all.push(item);
  return all;
}
