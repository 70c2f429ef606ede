/** The examples of RFC 7541, appendix C: fields, and the dynamic table after each block. */
import t, { type Test } from 'tap';
import { HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';
import { decodeBlock, fromHex, type PlainField, tableOf } from '../support/hpack.ts';

interface Example {
  readonly block: string;
  readonly fields: readonly string[];
  /** Newest first. */
  readonly table: readonly string[];
}

/** `name: value` of each field; a pseudo-header field begins with a colon. */
function lines(fields: readonly PlainField[]): string[] {
  return fields.map(([name, value]) => `${name}: ${value}`);
}

function follow(t: Test, decoder: HpackDecoder, examples: readonly Example[]): void {
  for (const { block, fields, table } of examples) {
    const { problem, fields: found } = decodeBlock(decoder, fromHex(block));
    t.equal(problem, 0);
    t.strictSame(lines(found), fields);
    t.strictSame(lines(tableOf(decoder)), table);
  }
}

t.test('C.1: integers', async (t) => {
  const sizes: [string, number][] = [
    ['2a', 10],
    ['3f9a0a', 1337],
    ['3f0b', 42],
  ];
  for (const [block, size] of sizes) {
    // What the table size is, is seen by the largest entry that fits, and by one that is a byte larger.
    for (const entry of [size, size + 1].map((bytes) => Math.max(bytes, 33))) {
      const decoder = new HpackDecoder();
      t.equal(decodeBlock(decoder, fromHex(block)).problem, 0);
      const value = 'v'.repeat(entry - 33);
      const literal = [0x40, 1, 0x61, ...stringLength(value.length), ...Buffer.from(value)];
      t.strictSame(decodeBlock(decoder, Uint8Array.from(literal)).fields, [['a', value, false]]);
      t.equal(tableOf(decoder).length, entry <= size ? 1 : 0, `${entry} bytes in a table of ${size}`);
    }
  }
});

/** RFC 7541 section 5.1 with a prefix of 7 bits, up to two further bytes. */
function stringLength(length: number): number[] {
  return length < 127 ? [length] : [127, 0x80 | ((length - 127) & 0x7f), (length - 127) >> 7];
}

t.test('C.2: representations of fields', async (t) => {
  const one = (block: string) => {
    const decoder = new HpackDecoder();
    const { problem, fields } = decodeBlock(decoder, fromHex(block));
    t.equal(problem, 0);
    return { fields, table: tableOf(decoder) };
  };
  const header: PlainField = ['custom-key', 'custom-header', false];
  t.strictSame(one('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'), {
    fields: [header],
    table: [header],
  });
  t.strictSame(one('040c 2f73 616d 706c 652f 7061 7468'), {
    fields: [[':path', '/sample/path', false]],
    table: [],
  });
  t.strictSame(one('1008 7061 7373 776f 7264 0673 6563 7265 74'), {
    fields: [['password', 'secret', true]],
    table: [],
  });
  t.strictSame(one('82'), { fields: [[':method', 'GET', false]], table: [] });
});

const REQUESTS = [
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
  [
    ...[':method: GET', ':scheme: https', ':path: /index.html', ':authority: www.example.com'],
    'custom-key: custom-value',
  ],
];

const REQUEST_TABLES = [
  [':authority: www.example.com'],
  ['cache-control: no-cache', ':authority: www.example.com'],
  ['custom-key: custom-value', 'cache-control: no-cache', ':authority: www.example.com'],
];

const COOKIE = 'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1';

const RESPONSES = [
  [
    ':status: 302',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ],
  [
    ':status: 307',
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ],
  [
    ...[':status: 200', 'cache-control: private', 'date: Mon, 21 Oct 2013 20:13:22 GMT'],
    ...['location: https://www.example.com', 'content-encoding: gzip', COOKIE],
  ],
];

const RESPONSE_TABLES = [
  [
    ...['location: https://www.example.com', 'date: Mon, 21 Oct 2013 20:13:21 GMT'],
    ...['cache-control: private', ':status: 302'],
  ],
  [
    ...[':status: 307', 'location: https://www.example.com', 'date: Mon, 21 Oct 2013 20:13:21 GMT'],
    'cache-control: private',
  ],
  [COOKIE, 'content-encoding: gzip', 'date: Mon, 21 Oct 2013 20:13:22 GMT'],
];

function examples(blocks: readonly string[], fields: string[][], tables: string[][]): Example[] {
  return blocks.map((block, i) => ({ block, fields: fields[i], table: tables[i] }));
}

t.test('C.3: requests without Huffman code', async (t) => {
  const blocks = [
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
  ];
  follow(t, new HpackDecoder(), examples(blocks, REQUESTS, REQUEST_TABLES));
});

t.test('C.4: requests with Huffman code', async (t) => {
  const blocks = [
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    '8286 84be 5886 a8eb 1064 9cbf',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
  ];
  follow(t, new HpackDecoder(), examples(blocks, REQUESTS, REQUEST_TABLES));
});

t.test('C.5: responses without Huffman code, in a table of 256 bytes', async (t) => {
  const blocks = [
    `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
     546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    '4803 3330 37c1 c0bf',
    `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
     6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
     2076 6572 7369 6f6e 3d31`,
  ];
  follow(t, new HpackDecoder(256), examples(blocks, RESPONSES, RESPONSE_TABLES));
});

t.test('C.6: responses with Huffman code, in a table of 256 bytes', async (t) => {
  const blocks = [
    `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
     8f0b 97c8 e9ae 82ae 43d3`,
    '4883 640e ffc1 c0bf',
    `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
     dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
  ];
  follow(t, new HpackDecoder(256), examples(blocks, RESPONSES, RESPONSE_TABLES));
});
