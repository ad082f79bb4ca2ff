/**
 * Proves that NBD URIs are read as their standard says, told apart from paths, refused in words, and written so that
 * reading gives the same again.
 */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CowError } from "../../../../src/lib/errors.ts";
import { formatNbdUri, isNbdUri, type NbdUri, parseNbdUri } from "../../../../src/lib/protocol/uri.ts";

function refusalOf(text: string): CowError {
  try {
    parseNbdUri(text);
  } catch (error) {
    if (error instanceof CowError) return error;
  }
  throw new Error(`${text} was not refused`);
}

const tcp = (host: string, port = 10_809) => ({ kind: "tcp", host, port }) as const;

describe("NBD URIs", () => {
  test.each([
    ["nbd://example.com", tcp("example.com"), ""],
    ["nbd://example.com/", tcp("example.com"), ""],
    ["nbd://example.com:/disk", tcp("example.com"), "disk"],
    ["NBD://example.com:1/disk", tcp("example.com", 1), "disk"],
    ["nbd://example.com//disk", tcp("example.com"), "/disk"],
    ["nbd://example.com/a/../b", tcp("example.com"), "a/../b"],
    ["nbd://example.com/hello%20world%2C+1", tcp("example.com"), "hello world,+1"],
    ["nbd://[::1]:10810/x", tcp("::1", 10_810), "x"],
    ["nbd://[fe80::1%25eth0]/x", tcp("fe80::1%eth0"), "x"],
    ["nbd+unix:///disk?socket=nbd.sock", { kind: "unix", path: "nbd.sock" }, "disk"],
    ["nbd+unix:///?socket=/tmp/a%26b", { kind: "unix", path: "/tmp/a&b" }, ""],
    ["nbd+unix://?socket=%00/abstract&x-mine=1", { kind: "unix", path: "\0/abstract" }, ""],
  ])("%s", (text, address, exportName) => {
    expect(parseNbdUri(text)).toEqual({ address, exportName, tls: undefined });
  });

  test("TLS", () => {
    const settings = "tls-certificates=/pki&tls-hostname=disk.example&tls-verify-peer=0";
    expect(parseNbdUri(`nbds+unix://alice@/?socket=s&${settings}`)).toEqual({
      address: { kind: "unix", path: "s" },
      exportName: "",
      tls: {
        certificates: "/pki",
        pskFile: undefined,
        username: "alice",
        hostname: "disk.example",
        verifyPeer: false,
      },
    });
    expect(parseNbdUri("nbds://h/?tls-type=psk&tls-psk-file=k&tls-username=bob").tls).toMatchObject({
      pskFile: "k",
      username: "bob",
      verifyPeer: true,
    });
  });

  test.each([
    ["nbd://", /host is missing/],
    ["nbd:///x", /host is missing/],
    ["nbd://h:0/", /0 is no port/],
    ["nbd://h:65536/", /65536 is no port/],
    ["nbd://h:x/", /no host and port/],
    ["nbd://[::1/", /no host and port/],
    ["nbd://h/x#fragment", /not the parts/],
    ["nbd+unix:///x", /socket=PATH is missing/],
    ["nbd+unix:///x?socket=", /socket=PATH is missing/],
    ["nbd+unix://h/x?socket=s", /has no host/],
    ["nbd+unix:///x?socket=a%00b", /NUL within/],
    ["nbd://h/x?socket=s", /"socket" is no parameter here/],
    ["nbd://h/x?tls-certificates=d", /"tls-certificates" is no parameter here/],
    ["nbds://h/x?tls-certificate=d", /"tls-certificate" is no parameter here/],
    ["nbds://h/?tls-hostname=a&tls-hostname=b", /given twice/],
    ["nbds://h/?tls-verify-peer=no", /0 or 1/],
    ["nbds://h/?tls-type=anon", /not supported/],
    ["nbds://h/?tls-type=psk", /go together/],
    ["nbds://h/?tls-psk-file=a&tls-certificates=b", /exclude each other/],
    ["nbd+vsock:///x", /nbd\+vsock is not supported/],
    ["nbd://h/%ff", /percent-encoded/],
    ["nbd://h/%00", /NUL/],
  ])("%s is refused", (text, why) => {
    const error = refusalOf(text);
    expect([error.code, error.file]).toEqual(["usage", text]);
    expect(error.message).toMatch(why);
  });

  test("names of exports are at most 4096 bytes long", () => {
    expect(parseNbdUri(`nbd://h/${"x".repeat(4096)}`).exportName).toHaveLength(4096);
    expect(refusalOf(`nbd://h/${"é".repeat(2049)}`).message).toMatch(/exceeds 4096 bytes/);
  });

  test("are told apart from paths", () => {
    expect(["nbd://h", "nbds+unix:///?socket=s", "NBD+VSOCK://x"].map(isNbdUri)).toEqual([true, true, true]);
    expect(["./nbd://h", "nbd", "nbd:h", "/nbd://h", "xnbd://h", "nbdx://h"].map(isNbdUri)).not.toContain(true);
  });

  test("are written as a server prints them", () => {
    const print = (address: NbdUri["address"], exportName: string): string =>
      formatNbdUri({ address, exportName, tls: undefined });
    expect(print(tcp("127.0.0.1"), "vm 1")).toBe("nbd://127.0.0.1:10809/vm%201");
    expect(print(tcp("::1", 5), "")).toBe("nbd://[::1]:5/");
    expect(print({ kind: "unix", path: "/run/a b,c.sock" }, "x")).toBe("nbd+unix:///x?socket=/run/a%20b%2Cc.sock");
  });

  test("written and read again they are the same, and have no comma", () => {
    const text = fc.string({ unit: "binary" }).filter((name) => !name.includes("\0") && name.isWellFormed());
    const some = text.filter((name) => name !== "");
    const address = fc.oneof(
      fc.record({
        kind: fc.constant("tcp" as const),
        host: fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()),
        port: fc.integer({ min: 1, max: 65_535 }),
      }),
      fc.record({ kind: fc.constant("unix" as const), path: some }),
    );
    const tls = fc.option(
      fc.record({
        certificates: fc.option(some, { nil: undefined }),
        pskFile: fc.constant(undefined),
        username: fc.option(some, { nil: undefined }),
        hostname: fc.option(some, { nil: undefined }),
        verifyPeer: fc.boolean(),
      }),
      { nil: undefined },
    );
    fc.assert(
      fc.property(fc.record({ address, exportName: text, tls }), (uri) => {
        const written = formatNbdUri(uri);
        expect(written).not.toContain(",");
        expect(parseNbdUri(written)).toEqual(uri);
      }),
    );
  });
});
