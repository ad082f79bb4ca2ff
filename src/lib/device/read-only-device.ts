/**
 * Owns what devices have in common that are only read, and of which no descriptor is the whole.
 */
import { CowError } from "../errors.ts";

export abstract class ReadOnlyDevice {
  abstract readonly name: string;
  readonly writable = false;
  readonly fd = undefined;

  write(): never {
    throw new CowError("permission", "is open for reading only", { file: this.name });
  }

  resize(): never {
    return this.write();
  }

  flush(): void {
    // Nothing is ever written.
  }

  punchHole(): boolean {
    return false;
  }
}
