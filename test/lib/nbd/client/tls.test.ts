/**
 * Proves TLS against nbdkit with GnuTLS: certificates and pre-shared keys, and that whoever is not who he should be is
 * refused, by either side.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RemoteDevice } from "../../../../src/lib/device/remote/remote-device.ts";
import { CowError } from "../../../../src/lib/errors.ts";
import { skipsLoudly } from "../../../support/command/real-process.ts";
import { hasProgram, startNbdkit, startQemuNbd, uriOf } from "../../../support/nbd/servers.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

const scratch = scratchDirectory();
const missing = ["nbdkit", "certtool", "psktool"].filter((program) => !hasProgram(program));
const noPrograms = skipsLoudly(missing.length > 0, `TLS of the NBD client is not tried: no ${missing.join(", ")}`);
const noQemu = skipsLoudly(
  !hasProgram("qemu-nbd"),
  "TLS of the NBD client is not tried with qemu-nbd: it is not there",
);

const SERVER =
  'cn = "server"\ndns_name = "localhost"\nip_address = "127.0.0.1"\ntls_www_server\nsigning_key\nencryption_key\n';
const CLIENT = 'cn = "client"\ntls_www_client\nsigning_key\nencryption_key\n';

/** A directory with an authority and the server's and the client's keys, named as nbdkit, QEMU and libnbd want them. */
function makePki(name: string): string {
  const folder = scratch(name);
  mkdirSync(folder);
  const at = (file: string): string => `${folder}/${file}`;
  const run = (...args: string[]): Buffer => execFileSync("certtool", args, { stdio: ["ignore", "ignore", "pipe"] });
  const template = (file: string, text: string): string => {
    writeFileSync(at(file), text);
    return at(file);
  };
  const key = (who: string): string => {
    run("--generate-privkey", "--outfile", at(`${who}-key.pem`));
    return at(`${who}-key.pem`);
  };
  const authority = template("ca.info", `cn = "${name}"\nca\ncert_signing_key\n`);
  const caKey = key("ca");
  const caCert = at("ca-cert.pem");
  run("--generate-self-signed", "--load-privkey", caKey, "--template", authority, "--outfile", caCert);
  for (const [who, text] of [
    ["server", SERVER],
    ["client", CLIENT],
  ] as const) {
    const by = ["--load-ca-certificate", caCert, "--load-ca-privkey", caKey, "--load-privkey", key(who)];
    const template_ = template(`${who}.info`, text);
    run("--generate-certificate", ...by, "--template", template_, "--outfile", at(`${who}-cert.pem`));
  }
  return folder;
}

let count = 0;
async function nbdkit(tls: readonly string[]): Promise<(query: string) => string> {
  const { socket } = await startNbdkit(scratch(`${count++}.sock`), [...tls, "pattern", "size=8M"]);
  return (query) => uriOf(socket, { tls: true, query });
}

const opened: RemoteDevice[] = [];
afterAll(() => {
  for (const device of opened) device.close();
});

/** Reads through a server, across several TLS records. */
function expectContents(uri: string): void {
  const device = RemoteDevice.open(uri);
  opened.push(device);
  const target = Buffer.alloc(3 << 20);
  device.read(target, 1 << 20);
  expect([target.readBigUInt64BE(0), target.readBigUInt64BE((3 << 20) - 8)]).toEqual([1n << 20n, (4n << 20n) - 8n]);
}

function failureOf(uri: string): CowError {
  try {
    opened.push(RemoteDevice.open(uri, { handshakeMs: 5000 }));
  } catch (error) {
    if (error instanceof CowError) return error;
  }
  throw new Error(`${uri} was opened`);
}

describe.skipIf(noPrograms)("certificates", () => {
  let pki: string;
  let others: string;
  let open: (query: string) => string;
  beforeAll(async () => {
    [pki, others] = [makePki("pki"), makePki("others")];
    open = await nbdkit(["--tls=require", `--tls-certificates=${pki}`, "--tls-verify-peer"]);
  });

  test.each(["", "&tls-hostname=localhost", "&tls-type=x509"])("of a common authority %s", (more) => {
    expectContents(open(`&tls-certificates=${pki}${more}`));
  });

  test.skipIf(noQemu)("with qemu-nbd", async () => {
    const path = scratch("empty.img");
    writeFileSync(path, Buffer.alloc(4096, 7));
    const credentials = `tls-creds-x509,id=tls0,endpoint=server,dir=${pki},verify-peer=yes`;
    const args = ["-r", "-f", "raw", "--object", credentials, "--tls-creds", "tls0", path];
    const { socket } = await startQemuNbd(scratch("qemu.sock"), args);
    const device = RemoteDevice.open(uriOf(socket, { tls: true, query: `&tls-certificates=${pki}` }));
    opened.push(device);
    const target = Buffer.alloc(10);
    device.read(target, 4000);
    expect(target).toEqual(Buffer.alloc(10, 7));
  });

  test("of a server that nobody vouches for", () => {
    expect(failureOf(open("")).message).toMatch(/the server's certificate is not signed by a trusted authority/);
    expect(failureOf(open(`&tls-certificates=${others}`)).message).toMatch(/not signed by a trusted authority/);
  });

  test("are for a name", () => {
    const failure = failureOf(open(`&tls-certificates=${pki}&tls-hostname=other.example`));
    expect(failure.message).toBe("cannot connect: the server's certificate is for another host");
  });

  test("without one the client is not let in", () => {
    const folder = scratch("only-authority");
    mkdirSync(folder);
    execFileSync("cp", [`${pki}/ca-cert.pem`, folder]);
    // TLS 1.3 tells a client only with its first read that it is not wanted.
    expect(failureOf(open(`&tls-certificates=${folder}`)).code).toBe("io");
  });

  test("need not be checked", async () => {
    const lax = await nbdkit(["--tls=require", `--tls-certificates=${pki}`]);
    expectContents(lax("&tls-verify-peer=0"));
    expect(failureOf(lax("")).message).toMatch(/not signed by a trusted authority/);
  });

  test("that are not there", () => {
    const failure = failureOf(open(`&tls-certificates=${scratch("nowhere")}`));
    expect([failure.code, failure.file]).toEqual(["not-found", scratch("nowhere")]);
  });

  test("TLS is wanted by the server, or not had by it", async () => {
    const wanting = failureOf(open("").replace("nbds+", "nbd+"));
    expect([wanting.code, wanting.hints]).toEqual(["permission", ["nbds:// and nbds+unix:// do TLS"]]);
    const plain = await nbdkit([]);
    expect(failureOf(plain(`&tls-certificates=${pki}`)).message).toMatch(/^the server does no TLS: /);
  });
});

describe.skipIf(noPrograms)("pre-shared keys", () => {
  let keys: string;
  let open: (query: string) => string;
  beforeAll(async () => {
    keys = scratch("keys.psk");
    for (const user of ["alice", "bob"]) execFileSync("psktool", ["-u", user, "-p", keys], { stdio: "ignore" });
    open = await nbdkit(["--tls=require", `--tls-psk=${keys}`]);
  });

  test("of a user, named in either way", () => {
    expectContents(open(`&tls-psk-file=${keys}&tls-username=bob`));
    expectContents(open(`&tls-psk-file=${keys}`).replace("+unix://", "+unix://alice@"));
  });

  test("that are wrong", () => {
    const wrong = scratch("wrong.psk");
    writeFileSync(wrong, `alice:${"00".repeat(32)}\nbob:xyz\n`);
    expect(failureOf(open(`&tls-psk-file=${wrong}&tls-username=alice`)).code).toBe("io");
    for (const user of ["bob", "carol"]) {
      const failure = failureOf(open(`&tls-psk-file=${wrong}&tls-username=${user}`));
      expect([failure.code, failure.file]).toEqual(["usage", wrong]);
    }
    expect(failureOf(open(`&tls-psk-file=${scratch("none.psk")}`)).code).toBe("not-found");
  });
});
