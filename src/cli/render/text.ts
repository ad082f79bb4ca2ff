/**
 * Owns writing output of any length: in pieces of some 64 Ki characters, until the reader has gone. Must
 * not know which stream it is.
 */

/** Takes a piece of text; false means that the reader has gone. */
export type TextSink = (text: string) => boolean | Promise<boolean>;

/** Text for people: one string, or many pieces, each of them whole lines. A missing newline at an end is added. */
export type Text = string | Iterable<string> | AsyncIterable<string>;

const PIECE_CHARACTERS = 64 * 1024;

/** Thrown by a buffer to leave every loop of its writer, and so close every generator. Not a failure. */
export class ReaderGone extends Error {}

/** Collects small texts into large pieces. */
export class TextBuffer {
  readonly #sink: TextSink;
  #text = "";

  constructor(sink: TextSink) {
    this.#sink = sink;
  }

  /** Returns something to wait for only when it is full: awaiting millions of times would cost more than writing. */
  push(text: string): Promise<void> | undefined {
    this.#text += text;
    return this.#text.length < PIECE_CHARACTERS ? undefined : this.flush();
  }

  async flush(): Promise<void> {
    const text = this.#text;
    this.#text = "";
    if (text !== "" && !(await this.#sink(text))) throw new ReaderGone("the reader of the output has gone");
  }
}

function withNewline(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}

async function pushAll(text: Text, out: TextBuffer): Promise<void> {
  if (typeof text === "string") {
    await out.push(withNewline(text));
  } else if (Symbol.iterator in text) {
    for (const piece of text) {
      const full = out.push(withNewline(piece));
      if (full) await full;
    }
  } else {
    for await (const piece of text) await out.push(withNewline(piece));
  }
}

/** @returns false when the reader has gone before the end */
export async function writeText(text: Text, sink: TextSink): Promise<boolean> {
  const out = new TextBuffer(sink);
  try {
    await pushAll(text, out);
    await out.flush();
    return true;
  } catch (error) {
    if (error instanceof ReaderGone) return false;
    throw error;
  }
}
