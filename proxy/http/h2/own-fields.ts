/** Fields the proxy adds to messages that it forwards, in both writings. */
import { latin1 } from '../bytes.ts';
import type { Field } from './field.ts';
import { fieldOf } from './interning.ts';

/** Some such fields, made once for many messages. */
export class OwnFields {
  /** For HTTP/2. */
  readonly fields: readonly Field[];
  /** For HTTP/1: whole lines, each with its CR LF. */
  readonly lines: Uint8Array;

  /** @param pairs names in lower case, values without bytes that no value has */
  constructor(pairs: readonly (readonly [name: string, value: string])[]) {
    this.fields = pairs.map(([name, value]) => fieldOf(name, value));
    const wrong = this.fields.find(({ problem }) => problem !== 0);
    if (wrong !== undefined) throw new RangeError(`${latin1Text(wrong.name)} is no field that can be sent`);
    this.lines = latin1(pairs.map(([name, value]) => `${name}: ${value}\r\n`).join(''));
  }
}

function latin1Text(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
