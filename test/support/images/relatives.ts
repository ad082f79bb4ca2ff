/**
 * Owns the golden images of the formats related to cowfiles, a folder a case, and what their manifests tell.
 */
import { createHash } from "node:crypto";
import { goldenCases, goldenImages, goldenJson } from "./golden-folder.ts";

export type Relative = "dmcow" | "snap";

export interface GoldenFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** What all manifests have. */
export interface RelativeManifest {
  readonly case: string;
  readonly files: Readonly<Record<string, GoldenFile>>;
}

/** The cases of a format, by name. */
export function relativeCases(format: Relative): readonly string[] {
  return goldenCases(format);
}

export const hasRelatives = relativeCases("dmcow").length > 0;

export function relativeManifest<Manifest extends RelativeManifest>(format: Relative, name: string): Manifest {
  return goldenJson(`${format}/${name}`, "manifest.json") as Manifest;
}

/** The folder with the images of a case. Tests never write to what is in it. */
export function relativeImages(format: Relative, name: string): string {
  return goldenImages(`${format}/${name}`);
}

export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
