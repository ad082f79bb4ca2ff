/**
 * Owns standard input and output as one stream that can be ended: for a client at the other end of a pipe or a socket.
 * Node's own process.stdin and process.stdout are never closed, and the client would wait for that.
 */
import * as fs from "node:fs";
import * as net from "node:net";
import { Duplex } from "node:stream";
import { CowError } from "../lib/errors.ts";

const STDIN = 0;
const STDOUT = 1;

/** @throws CowError `usage` if they are neither pipes nor sockets */
export function standardStream(): Duplex {
  const [input, output] = [fs.fstatSync(STDIN), fs.fstatSync(STDOUT)];
  for (const stat of [input, output]) {
    if (!stat.isFIFO() && !stat.isSocket())
      throw new CowError("usage", "--stdio needs a pipe or a socket as standard input and output");
  }
  // As inetd and socketpair(2) do it: one socket for both.
  if (input.isSocket() && input.ino === output.ino) return new net.Socket({ fd: STDIN, allowHalfOpen: true });
  return join(
    new net.Socket({ fd: STDIN, readable: true, writable: false }),
    new net.Socket({ fd: STDOUT, readable: false, writable: true }),
  );
}

function join(input: net.Socket, output: net.Socket): Duplex {
  const both = new Duplex({
    read: () => void input.resume(),
    write: (chunk, _encoding, done) => void output.write(chunk, done),
    final: (done) => void output.end(done),
    destroy: (error, done) => {
      input.destroy();
      output.destroy();
      done(error);
    },
  });
  input.on("data", (chunk) => {
    if (!both.push(chunk)) input.pause();
  });
  input.on("end", () => both.push(null));
  for (const side of [input, output]) side.on("error", (error) => both.destroy(error));
  return both;
}
