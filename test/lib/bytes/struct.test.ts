/**
 * Proves the declarative structs: where fields lie on each machine, and that decoding and encoding are each other's
 * inverse, touch nothing beside the struct, and refuse what does not fit.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeStruct, encodeStruct, type FieldSpec, placeFields } from "../../../src/lib/bytes/struct.ts";

type Name = "id" | "small" | "other" | "length";

const FIELDS: readonly FieldSpec<Name>[] = [
  { name: "id", kind: "u32", meaning: "a number" },
  { name: "small", kind: "s16", meaning: "may be negative" },
  { name: "other", kind: "s16", meaning: "may be negative" },
  { name: "length", kind: "word", meaning: "as wide as the machine" },
];

const model = fc.record({ endian: fc.constantFrom("little", "big"), wordBytes: fc.constantFrom(4, 8) });

describe("structs", () => {
  test("fields follow each other without padding, words as wide as the machine", () => {
    const wide = placeFields(FIELDS, { endian: "little", wordBytes: 8 });
    expect(wide.fields.map(({ offsetBytes, sizeBytes }) => [offsetBytes, sizeBytes])).toEqual([
      [0, 4],
      [4, 2],
      [6, 2],
      [8, 8],
    ]);
    expect([wide.sizeBytes, placeFields(FIELDS, { endian: "big", wordBytes: 4 }).sizeBytes]).toEqual([16, 12]);
  });

  test("a table whose fields would need padding is a mistake of the programmer", () => {
    const crooked: FieldSpec[] = [
      { name: "a", kind: "s16", meaning: "" },
      { name: "b", kind: "u32", meaning: "" },
    ];
    expect(() => placeFields(crooked, { endian: "little", wordBytes: 8 })).toThrow(/padding/);
  });

  test("bytes lie in the machine's order, and signs are kept", () => {
    const values = { id: 0x01020304n, small: -2n, other: 0x0506n, length: 0x0708090an };
    const [little, big] = [new Uint8Array(12), new Uint8Array(12)];
    encodeStruct(placeFields(FIELDS, { endian: "little", wordBytes: 4 }), values, little);
    encodeStruct(placeFields(FIELDS, { endian: "big", wordBytes: 4 }), values, big);
    expect(Buffer.from(little).toString("hex")).toBe("04030201feff06050a090807");
    expect(Buffer.from(big).toString("hex")).toBe("01020304fffe05060708090a");
  });

  test("decoding any bytes and encoding them again gives the same bytes, at any place in a buffer", () => {
    fc.assert(
      fc.property(model, fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(9), (machine, bytes, shift) => {
        const layout = placeFields(FIELDS, machine);
        const buffer = new Uint8Array(40).fill(0xee);
        buffer.set(bytes.subarray(0, layout.sizeBytes), shift);
        const values = decodeStruct(layout, buffer.subarray(shift));
        const target = new Uint8Array(40).fill(0xee);
        encodeStruct(layout, values, target.subarray(shift));
        expect(target).toEqual(buffer);
      }),
    );
  });

  test.each([
    ["id", 2n ** 32n],
    ["id", -1n],
    ["small", 0x8000n],
    ["small", -0x8001n],
    ["length", 2n ** 32n],
    ["length", -1n],
  ] as const)("%s does not take %s: nothing is cut off in silence", (name, value) => {
    const layout = placeFields(FIELDS, { endian: "little", wordBytes: 4 });
    const values = { id: 0n, small: 0n, other: 0n, length: 0n, [name]: value };
    expect(() => encodeStruct(layout, values, new Uint8Array(12))).toThrow(/does not fit/);
  });

  test("a struct that the bytes are too few for is never read in part", () => {
    const layout = placeFields(FIELDS, { endian: "little", wordBytes: 8 });
    expect(() => decodeStruct(layout, new Uint8Array(15))).toThrow(RangeError);
  });
});
