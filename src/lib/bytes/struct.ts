/**
 * Owns declarative descriptions of on-disk structs: one table gives offsets, decoding, encoding and documentation.
 * C layout without padding: a table whose fields would need padding is a programmer's error.
 */
import { assert } from "../errors.ts";

/** `word` is C's `unsigned long`: as wide as the machine that wrote it. */
export type FieldKind = "u32" | "s16" | "word";

export interface FieldSpec<Name extends string = string> {
  readonly name: Name;
  readonly kind: FieldKind;
  /** A phrase for the manual. */
  readonly meaning: string;
}

/** Byte order and word size of a machine. */
export interface MachineModel {
  readonly endian: "little" | "big";
  readonly wordBytes: 4 | 8;
}

/** A field of a structure, at its place. */
export interface PlacedField<Name extends string = string> extends FieldSpec<Name> {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Where the fields of a structure are, for one kind of machine. */
export interface StructLayout<Name extends string = string> {
  readonly model: MachineModel;
  readonly fields: readonly PlacedField<Name>[];
  readonly sizeBytes: number;
}

/** Every field's value; bigint, because words may exceed what a number holds exactly. */
export type StructValues<Name extends string> = Record<Name, bigint>;

function fieldBytes(kind: FieldKind, model: MachineModel): number {
  if (kind === "word") return model.wordBytes;
  return kind === "u32" ? 4 : 2;
}

/** Places the fields one after the other for one machine model. */
export function placeFields<Name extends string>(
  specs: readonly FieldSpec<Name>[],
  model: MachineModel,
): StructLayout<Name> {
  let offsetBytes = 0;
  const fields = specs.map((spec) => {
    const sizeBytes = fieldBytes(spec.kind, model);
    assert(offsetBytes % sizeBytes === 0, `field ${spec.name} would need padding`);
    const placed = { ...spec, offsetBytes, sizeBytes };
    offsetBytes += sizeBytes;
    return placed;
  });
  return { model, fields, sizeBytes: offsetBytes };
}

/** Reads every field. `bytes` must hold at least `layout.sizeBytes`. */
export function decodeStruct<Name extends string>(layout: StructLayout<Name>, bytes: Uint8Array): StructValues<Name> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = layout.model.endian === "little";
  const values = {} as StructValues<Name>;
  for (const { name, kind, sizeBytes, offsetBytes } of layout.fields) {
    if (kind === "s16") values[name] = BigInt(view.getInt16(offsetBytes, little));
    else if (sizeBytes === 4) values[name] = BigInt(view.getUint32(offsetBytes, little));
    else values[name] = view.getBigUint64(offsetBytes, little);
  }
  return values;
}

/** Writes every field into `target`, leaving bytes beyond the struct as they are. */
export function encodeStruct<Name extends string>(
  layout: StructLayout<Name>,
  values: StructValues<Name>,
  target: Uint8Array,
): void {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  const little = layout.model.endian === "little";
  for (const { name, kind, sizeBytes, offsetBytes } of layout.fields) {
    const value = values[name];
    if (kind === "s16") {
      assert(value >= -0x8000n && value <= 0x7fffn, `${name} does not fit 16 bits`);
      view.setInt16(offsetBytes, Number(value), little);
    } else {
      assert(value >= 0n && value < 1n << BigInt(8 * sizeBytes), `${name} does not fit ${sizeBytes} bytes`);
      if (sizeBytes === 4) view.setUint32(offsetBytes, Number(value), little);
      else view.setBigUint64(offsetBytes, value, little);
    }
  }
}
