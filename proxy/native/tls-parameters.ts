/** The form in which the engine takes what a TLS client says of itself. */

/** What a TLS client says in its hello: the server name, and application protocols in the order of preference. */
export function tlsParameters(serverName: string, protocols: readonly string[]): Uint8Array {
  const name = Buffer.from(serverName, 'latin1');
  const alpn = Buffer.concat(protocols.map((protocol) => Buffer.from(`\0${protocol}`, 'latin1')));
  for (let at = 0, i = 0; i < protocols.length; at += 1 + protocols[i++].length)
    alpn[at] = protocols[i].length;
  const lengths = Buffer.alloc(4);
  lengths.writeUInt16LE(name.length, 0);
  lengths.writeUInt16LE(alpn.length, 2);
  return Buffer.concat([lengths.subarray(0, 2), name, lengths.subarray(2), alpn]);
}
