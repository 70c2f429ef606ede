/** `ferrule demo`: a whole mesh on this machine, with real traffic and a live view. */

import { EXIT, UserError } from '../core/errors.ts';
import { type Command, formatUsage } from './command.ts';

const FACE = {
  name: 'demo',
  summary: 'run a whole mesh on this machine, with real traffic and a live view',
  options: {},
} as const;

export const command: Command = {
  name: FACE.name,
  summary: FACE.summary,
  usage: formatUsage(FACE),
  run: async () => {
    throw new UserError('ferrule demo: not in this build yet', EXIT.unavailable);
  },
};
