/** Clients of HTTP/2 and gRPC: one connection, whose exchanges are streams and may run at the same time. */

import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2';
import { encodeText, METHODS, STATUS, TextReader } from './grpc.ts';
import type { ClientService } from './messages.ts';
import { PATIENCE_MS, type Session, within, wrongAnswer } from './session.ts';

/** Of so many calls one is a conversation, the others are unary. */
const CALLS_PER_CONVERSATION = 4;

/** Messages of a conversation, each sent when the one before has been answered. */
const CONVERSATION_MESSAGES = 5;

/** GET over HTTP/2. */
export function openHttp2(service: ClientService): Promise<Session> {
  return open(service, get);
}

/** Unary calls, and conversations on streams in both directions. */
export function openGrpc(service: ClientService): Promise<Session> {
  return open(service, (connection, round) => {
    if (round % CALLS_PER_CONVERSATION !== 0) return call(connection, METHODS.once, [`text ${round}`]);
    const texts = Array.from({ length: CONVERSATION_MESSAGES }, (_, index) => `text ${round}-${index}`);
    return call(connection, METHODS.converse, texts);
  });
}

async function open(
  { dial }: ClientService,
  exchange: (connection: ClientHttp2Session, round: number) => Promise<void>,
): Promise<Session> {
  const connection = connect(`http://${dial.ip}:${dial.port}`);
  const connected = once(connection, 'connect');
  // What it means for a stream each one is told.
  connection.on('error', () => connection.destroy());
  await within(`connecting to ${dial.ip}:${dial.port}`, connected, () => connection.destroy());
  return {
    exchange: (round) => exchange(connection, round),
    close: () => connection.close(),
  };
}

async function get(connection: ClientHttp2Session, round: number): Promise<void> {
  const stream = connection.request({ ':path': `/${round}` });
  let answer = '';
  stream.once('response', ({ ':status': status }) => {
    answer = `${status} `;
  });
  await read(stream.setEncoding('utf8'), (chunk: string) => {
    answer += chunk;
  });
  if (!answer.startsWith(`200 GET /${round} served by `)) throw wrongAnswer(answer);
}

/** One call, with one message or several, each sent when the one before has been answered. */
async function call(connection: ClientHttp2Session, path: string, texts: readonly string[]): Promise<void> {
  const stream = connection.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    // Whoever is on the way then knows, too, when nobody waits any more.
    'grpc-timeout': `${PATIENCE_MS}m`,
  });
  // The status comes in trailers, or in a head that nothing follows.
  let fields: IncomingHttpHeaders = {};
  const take = (taken: IncomingHttpHeaders) => {
    fields = taken;
  };
  stream.once('response', take).once('trailers', take);
  const reader = new TextReader();
  const answers: string[] = [];
  const send = () => {
    const message = encodeText(texts[answers.length]);
    if (answers.length === texts.length - 1) stream.end(message);
    else stream.write(message);
  };
  send();
  await read(stream, (chunk: Buffer) => {
    for (const answer of reader.read(chunk)) {
      answers.push(answer);
      if (answers.length < texts.length) send();
    }
  });
  const { 'grpc-status': status = 'missing', 'grpc-message': message = 'no message' } = fields;
  if (Number(status) !== STATUS.ok) throw new Error(`gRPC status ${status}: ${message}`);
  const isRight = answers.every((answer, index) => answer.startsWith(`${texts[index]} answered by `));
  if (answers.length !== texts.length || !isRight) throw wrongAnswer(answers.join(', '));
}

/** All of a response; rejects when it breaks off, or takes too long. */
async function read<T>(stream: ClientHttp2Stream, take: (chunk: T) => void): Promise<void> {
  const reading = async () => {
    for await (const chunk of stream) take(chunk);
  };
  await within('an answer', reading(), () => stream.close(constants.NGHTTP2_CANCEL));
}
