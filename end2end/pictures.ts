// Images to fill a gallery with: small PNGs of several shapes, each with a prompt of its own, as A1111
// writes them.
import type { APIRequestContext } from '@playwright/test';
import { crc32, deflateSync } from 'node:zlib';

const SHAPES = [
  [24, 24],
  [32, 18],
  [18, 32],
  [36, 24],
  [20, 26],
] as const;

function chunk(kind: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(kind, 'latin1'), data]);
  const framed = Buffer.alloc(8 + body.length);
  framed.writeUInt32BE(data.length, 0);
  body.copy(framed, 4);
  framed.writeUInt32BE(crc32(body), 4 + body.length);
  return framed;
}

/** A picture in one colour with a prompt; each number another file. */
export function picture(number: number, prompt: string): Buffer {
  const [width, height] = SHAPES[number % SHAPES.length];
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const row = Buffer.alloc(1 + 3 * width);
  for (let x = 0; x < width; x++) row.set([(number * 37) % 256, (number * 91) % 256, (number * 13) % 256], 1 + 3 * x);
  const text = `parameters\0${prompt}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: ${number}, Size: ${width}x${height}, Model: foxes`;
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('tEXt', Buffer.from(text, 'latin1')),
    chunk('IDAT', deflateSync(Buffer.concat(Array<Buffer>(height).fill(row)))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Brings so many images in for whoever is signed in; the last one is the newest. Answers their ids. */
export async function hang(request: APIRequestContext, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let number = 0; number < count; number++) {
    const answer = await request.post('/api/images/import', {
      data: picture(number, `picture ${String(number).padStart(4, '0')}`),
      headers: { 'content-type': 'image/png' },
    });
    if (answer.status() !== 201) throw new Error(`import: ${answer.status()} ${await answer.text()}`);
    ids.push(((await answer.json()) as { id: string }).id);
  }
  return ids;
}
