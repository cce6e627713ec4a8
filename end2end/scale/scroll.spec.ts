// A hundred thousand images of one person: how long frames take while one scrolls through them.
import { expect, test } from '@playwright/test';
import { Server, signIn, Troubles } from '../fixtures';

const LONGEST_MS = 100;

test('scrolling through a hundred thousand images drops no frame', async ({ browser }, info) => {
  const dir = process.env.ATELIER_SCALE_DIR;
  const images = process.env.ATELIER_SCALE_IMAGES;
  if (!dir || !images) throw new Error('run `make scale`: it makes the folder and names it in ATELIER_SCALE_DIR');
  const server = new Server(new Troubles(), dir);
  await server.start();
  try {
    const { viewport, isMobile, hasTouch, deviceScaleFactor } = info.project.use;
    const context = await browser.newContext({ baseURL: server.url, viewport, isMobile, hasTouch, deviceScaleFactor });
    const page = await context.newPage();
    await signIn(page, 'user1');
    await page.goto('/gallery');
    await expect(page.locator('.wall-placed .tile').first()).toHaveAttribute('aria-setsize', images, { timeout: 30_000 });
    const told = await page.evaluate(async () => {
      const frame = () => new Promise<number>((next) => requestAnimationFrame(next));
      const run = async (frames: number, scroll: (frame: number) => void) => {
        const taken: number[] = [];
        // What was going on before is not this scroll's.
        await new Promise((over) => setTimeout(over, 1000));
        let before = await frame();
        for (let at = 0; at < frames; at++) {
          scroll(at);
          const now = await frame();
          taken.push(now - before);
          before = now;
        }
        taken.sort((a, b) => a - b);
        return {
          median: taken[Math.floor(taken.length / 2)],
          p99: taken[Math.floor(taken.length * 0.99)],
          longest: taken[taken.length - 1],
          tiles: document.querySelectorAll('.tile').length,
        };
      };
      const height = document.documentElement.scrollHeight;
      return {
        'a wheel, slowly': await run(300, () => window.scrollBy(0, 60)),
        'a wheel, fast': await run(300, () => window.scrollBy(0, 600)),
        'a flick': await run(200, (at) => window.scrollBy(0, 3000 * Math.exp(-at / 60))),
        'the scroll bar, end to end': await run(300, (at) => window.scrollTo(0, (height * at) / 300)),
        'back up': await run(300, () => window.scrollBy(0, -600)),
      };
    });
    console.log(`\n${info.project.name}: frames in ms`);
    console.table(told);
    for (const [how, frames] of Object.entries(told)) {
      expect(frames.longest, `${how}: the longest frame in ms`).toBeLessThan(LONGEST_MS);
      expect(frames.tiles, `${how}: tiles on the page`).toBeLessThan(400);
    }
    await context.close();
  } finally {
    await server.stop();
  }
});
