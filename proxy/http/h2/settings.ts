/** SETTINGS of the peer (RFC 9113 section 6.5). */
import { H2_ERROR, MAX_31_BITS, MAX_FRAME_SIZE, MIN_FRAME_SIZE, readUint32, SETTING } from './frames.ts';

/** What is wrong with a setting. */
export interface SettingsError {
  /** One of H2_ERROR. */
  readonly code: number;
  /** The end of a sentence. */
  readonly text: string;
}

const PUSH: SettingsError = {
  code: H2_ERROR.protocolError,
  text: 'SETTINGS_ENABLE_PUSH is neither 0 nor 1, or 1 from a server',
};
const WINDOW: SettingsError = {
  code: H2_ERROR.flowControlError,
  text: 'SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1',
};
const FRAME_SIZE: SettingsError = {
  code: H2_ERROR.protocolError,
  text: 'SETTINGS_MAX_FRAME_SIZE is not from 16384 to 16777215',
};
const CONNECT: SettingsError = {
  code: H2_ERROR.protocolError,
  text: 'SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1, or was taken back',
};

/** What the peer takes, at first what RFC 9113 section 6.5.2 says. */
export class PeerSettings {
  headerTableSize = 4096;
  /** The smallest that it was in the last frame: an encoder must have been there (RFC 7541 section 4.2). */
  leastTableSize = 4096;
  /** Streams that we may have open at once. Of a peer that has not said anything yet, what all are recommended to take. */
  maxConcurrentStreams = 100;
  initialWindowSize = 65_535;
  maxFrameSize = MIN_FRAME_SIZE;
  /** It takes extended CONNECT (RFC 8441). */
  enableConnectProtocol = false;
  /** Its first SETTINGS frame has come. */
  known = false;

  /**
   * Takes the payload of a SETTINGS frame, whose length is a multiple of 6, in its order.
   * @param fromServer the peer is a server
   */
  read(bytes: Uint8Array, from: number, to: number, fromServer: boolean): SettingsError | undefined {
    // What it does not mention is not limited.
    if (!this.known) this.maxConcurrentStreams = MAX_31_BITS;
    this.known = true;
    this.leastTableSize = this.headerTableSize;
    for (let at = from; at < to; at += 6) {
      const error = this.take((bytes[at] << 8) | bytes[at + 1], readUint32(bytes, at + 2), fromServer);
      if (error !== undefined) return error;
    }
    return undefined;
  }

  private take(setting: number, value: number, fromServer: boolean): SettingsError | undefined {
    switch (setting) {
      case SETTING.headerTableSize:
        this.headerTableSize = value;
        this.leastTableSize = Math.min(this.leastTableSize, value);
        return undefined;
      case SETTING.enablePush:
        return value > (fromServer ? 0 : 1) ? PUSH : undefined;
      case SETTING.maxConcurrentStreams:
        this.maxConcurrentStreams = value;
        return undefined;
      case SETTING.initialWindowSize:
        this.initialWindowSize = value;
        return value > MAX_31_BITS ? WINDOW : undefined;
      case SETTING.maxFrameSize:
        this.maxFrameSize = value;
        return value < MIN_FRAME_SIZE || value > MAX_FRAME_SIZE ? FRAME_SIZE : undefined;
      case SETTING.enableConnectProtocol:
        if (value > 1 || (value === 0 && this.enableConnectProtocol)) return CONNECT;
        this.enableConnectProtocol = value === 1;
        return undefined;
      default:
        return undefined;
    }
  }
}
