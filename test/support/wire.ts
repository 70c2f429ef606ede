/** What crosses the link between two pods, for tests of what a listener there could learn. */
import { fileURLToPath } from 'node:url';
import { type Mesh, poll, SERVER } from './mesh.ts';
import { exec, spawn } from './netns.ts';

const SNIFFER = fileURLToPath(new URL('./sniffer.py', import.meta.url));

/** Everything seen since the start. */
export class Wire {
  private readonly mesh: Mesh;
  private readonly socat: string;
  private readonly frames: Buffer[] = [];
  private marks = 0;

  private constructor(mesh: Mesh, socat: string) {
    this.mesh = mesh;
    this.socat = socat;
  }

  /** Listens on the server pod's end of the link. */
  static async sniff(mesh: Mesh, python: string, socat: string): Promise<Wire> {
    const wire = new Wire(mesh, socat);
    const child = spawn(mesh.server, python, [SNIFFER, 'eth0'], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout?.on('data', (bytes) => wire.frames.push(bytes));
    let said = '';
    child.stderr?.on('data', (text) => {
      said += text;
    });
    await poll(
      'the sniffer listens',
      () => said.includes('sniffing'),
      () => said,
    );
    return wire;
  }

  /** All that crossed before the call, both ways: a datagram sent now has arrived when it returns. */
  async bytes(): Promise<Buffer> {
    const mark = `mark ${this.marks++} of the sniffer`;
    exec(this.mesh.client, this.socat, ['-', `UDP:${SERVER.v4}:9`], { input: mark });
    await poll('the mark is seen', () => Buffer.concat(this.frames).includes(mark));
    return Buffer.concat(this.frames);
  }
}
