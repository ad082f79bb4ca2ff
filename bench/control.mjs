/**
 * Owns asking servers to do something while they serve: cowtool by HTTP over its control socket, qemu-storage-daemon by QMP;
 * and visiting an export as a client does that has just been told of it.
 */
import { request } from "node:http";
import { connect } from "node:net";

/** @returns what the server answers @throws Error with the server's own words */
export function ask(socketPath, method, path, body) {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers = {
      host: "localhost",
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
    };
    const sent = request({ socketPath, method, path, headers }, (response) => {
      let answer = "";
      response.setEncoding("utf8").on("data", (chunk) => {
        answer += chunk;
      });
      response.on("end", () => {
        if (response.statusCode < 300) resolve(answer === "" ? {} : JSON.parse(answer));
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${answer.slice(0, 500)}`));
      });
    });
    sent.on("error", reject);
    sent.end(text);
  });
}

/** A QMP session. @returns { command(name, arguments), close() } */
export async function openQmp(socketPath) {
  const socket = connect(socketPath);
  const waiting = [];
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      const answer = JSON.parse(line);
      if ("return" in answer) waiting.shift()?.resolve(answer.return);
      else if ("error" in answer) waiting.shift()?.reject(new Error(answer.error.desc));
    }
  });
  const fail = () => {
    for (const { reject } of waiting.splice(0)) reject(new Error("QMP: hung up on"));
  };
  socket.on("close", fail).on("error", fail);
  const command = (execute, args = {}) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    });
  await command("qmp_capabilities");
  return { command, close: () => socket.destroy() };
}

const u32 = (number) => Buffer.from([number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255]);

/** Takes bytes from a socket, exactly as many as asked for. */
function reader(client) {
  const chunks = [];
  let [have, wanted, give] = [0, 0, undefined];
  const serve = () => {
    if (!give || have < wanted) return;
    const all = Buffer.concat(chunks.splice(0));
    const taken = all.subarray(0, wanted);
    if (all.length > wanted) chunks.push(all.subarray(wanted));
    have -= wanted;
    const done = give;
    give = undefined;
    done(taken);
  };
  client.on("data", (bytes) => {
    chunks.push(bytes);
    have += bytes.length;
    serve();
  });
  return (count) =>
    new Promise((resolve, reject) => {
      [wanted, give] = [count, resolve];
      client.once("close", () => reject(new Error("hung up on")));
      serve();
    });
}

const NO_BYTES = Buffer.alloc(0);
const requestOf = (type, length, data = NO_BYTES) =>
  Buffer.concat([u32(0x25609513), Buffer.from([0, 0, 0, type]), Buffer.alloc(16), u32(length), data]);

/** Connects, writes 4 KiB where wanted, reads 4 KiB, says goodbye. @returns milliseconds until the answer */
export async function visit(socket, name, { write = false } = {}) {
  const start = performance.now();
  const client = connect(socket);
  client.on("error", () => undefined); // the reader is told by the end
  const gone = new Promise((resolve) => client.once("close", resolve));
  const take = reader(client);
  await take(18);
  const info = Buffer.concat([u32(name.length), Buffer.from(name), Buffer.from([0, 0])]);
  client.write(Buffer.concat([u32(3), Buffer.from("IHAVEOPT"), u32(7), u32(info.length), info]));
  for (let type = 0; type !== 1; ) {
    const head = await take(20);
    type = head.readUInt32BE(12);
    await take(head.readUInt32BE(16));
    if (type >= 2 ** 31) throw new Error(`refused: ${type}`);
  }
  if (write) client.write(requestOf(1, 4096, Buffer.alloc(4096, 1)));
  client.write(requestOf(0, 4096));
  await take(4096 + 16 + (write ? 16 : 0));
  const ms = performance.now() - start;
  client.end(requestOf(2, 0));
  await gone;
  return ms;
}
