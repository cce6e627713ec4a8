// Makes docs/pictures out of the screenshots of the last test run (tests/access.spec.ts): four pages, small
// enough for a README. Chromium itself scales and compresses them, so that no other program is needed.
import { chromium } from '@playwright/test';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, '../docs/pictures');

/** Which screenshots, and how wide they become. */
const PICTURES = [
  { from: 'desktop/studio-working-light.png', to: 'studio.webp', width: 1200 },
  { from: 'desktop/gallery-dark.png', to: 'gallery.webp', width: 1200 },
  { from: 'desktop/admin-light.png', to: 'admin.webp', width: 1200 },
  { from: 'phone/image-dark.png', to: 'phone.webp', width: 480 },
];
/** All of them together, in bytes. */
const MOST = 400_000;

mkdirSync(out, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
const page = await browser.newPage();
let sum = 0;
for (const { from, to, width } of PICTURES) {
  const source = readFileSync(join(here, 'screenshots', from)).toString('base64');
  const made = await page.evaluate(
    async ({ source, width }) => {
      const image = new Image();
      image.src = `data:image/png;base64,${source}`;
      await image.decode();
      const canvas = document.createElement('canvas');
      canvas.width = width;
      canvas.height = Math.round((image.naturalHeight * width) / image.naturalWidth);
      const context = canvas.getContext('2d');
      context.imageSmoothingQuality = 'high';
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      return canvas.toDataURL('image/webp', 0.86).split(',')[1];
    },
    { source, width },
  );
  writeFileSync(join(out, to), Buffer.from(made, 'base64'));
  const bytes = statSync(join(out, to)).size;
  sum += bytes;
  console.log(`${to}: ${(bytes / 1000).toFixed(0)} kB`);
}
await browser.close();
if (sum > MOST) {
  console.error(`the pictures are ${sum} bytes together, and ${MOST} is the most`);
  process.exit(1);
}
