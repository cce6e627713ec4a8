// A server on this machine that plays the Hugging Face hub, with the demo model as its only
// repository. How fast it sends is the test's to say.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';

const folder = resolve('../server/demo/model');
const commit = '0123456789abcdef0123456789abcdef01234567';

/** The name of its repository. */
export const REPOSITORY = 'somebody/shapes';

export class Hub {
  url = '';
  /** Milliseconds between pieces of 64 KiB; 0 sends everything at once. */
  pause = 0;
  private readonly files = new Map<string, Buffer>();
  private server: Server | undefined;

  async start(): Promise<void> {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      this.files.set(path.slice(folder.length + 1), readFileSync(path));
    }
    const server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url!, 'http://hub').pathname);
      if (path === `/api/models/${REPOSITORY}/revision/main`) {
        response.setHeader('content-type', 'application/json');
        return response.end(JSON.stringify({ sha: commit, siblings: this.siblings() }));
      }
      const bytes = this.files.get(path.replace(`/${REPOSITORY}/resolve/${commit}/`, ''));
      if (!bytes) {
        response.statusCode = 404;
        return response.end();
      }
      const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      if (start > 0) {
        response.statusCode = 206;
        response.setHeader('content-range', `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
      }
      response.setHeader('content-length', bytes.length - start);
      void this.send(bytes.subarray(start), response);
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    this.server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server?.closeAllConnections();
    this.server?.close();
  }

  private siblings() {
    return [...this.files].map(([rfilename, bytes]) => ({
      rfilename,
      size: bytes.length,
      lfs: { sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length },
    }));
  }

  private async send(bytes: Buffer, response: import('node:http').ServerResponse): Promise<void> {
    for (let at = 0; at < bytes.length && !response.destroyed; at += 65536) {
      response.write(bytes.subarray(at, at + 65536));
      if (this.pause > 0) await new Promise((go) => setTimeout(go, this.pause));
    }
    response.end();
  }
}
