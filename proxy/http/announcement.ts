/**
 * How a sidecar tells another one that it takes HTTP/2 for whatever its application speaks: in a field of the first response on a
 * connection of HTTP/1, to a peer that has proved to be one. Nobody has to configure it, and proxies that do not know it ignore it.
 */
import { latin1 } from './bytes.ts';
import type { Head } from './head.ts';
import { MAX_FIELDS, MAX_HEAD_BYTES } from './problems.ts';

const NAME = latin1('l5d-session-protocol');

/** The whole line. */
export const TAKES_HTTP2: Uint8Array = latin1('l5d-session-protocol: HTTP/2\r\n');

/** Whether a response still is one that the other sidecar takes when the line is in it; else another connection will have to say it. */
export function hasRoomToAnnounce(head: Head): boolean {
  return head.end - head.start + TAKES_HTTP2.length <= MAX_HEAD_BYTES && head.count < MAX_FIELDS;
}

/** Takes the announcement out of a response. @returns whether there was one */
export function takeAnnouncement(head: Head): boolean {
  const field = head.find(NAME);
  if (field < 0) return false;
  head.dropped[field] = 1;
  return head.value(field) === 'HTTP/2';
}
